"""The command line: the only place that prints and exits."""

import argparse
import json
import os
import sys
import time
import webbrowser
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from frcnn import processes
from frcnn.config import base_model_names, dump_yaml, merge, recipe_names
from frcnn.files import whole_file, write_text

if TYPE_CHECKING:
    from frcnn.config import DrawSettings
    from frcnn.evaluation.report import Evaluation
    from frcnn.nn.detector import FasterRCNN
    from frcnn.training.loop import StepReport
    from frcnn.types import Prediction

# Modules that need torch are imported by the commands that use them: help and settings come at once.

_PUBLIC = {
    "voc2007": "Pascal VOC 2007 (881 MB), and write CNTK's map files for it",
    "voc2012": "Pascal VOC 2012 (1.9 GB), and write CNTK's map files for it",
    "grocery": "the refrigerator photos of CNTK's tutorial",
}
DEMO_SETTINGS = ("train.epochs=10", "train.seed=1")
_FEW = 10  # images: one object more or less is seen in their AP
_PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal for a progress bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 warnings (check --strict), 2 bad input, 130 interrupted, 141
    nobody read on."""
    options = _parser().parse_args(arguments)
    try:
        with processes.joined(), nullcontext() if processes.is_first() else _silence():
            status: int | None = options.run(options)
            sys.stdout.flush()
    except BrokenPipeError:  # `frcnn nodes NAME | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at the end
        return 141
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"frcnn: error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        print(
            "frcnn: error: out of memory; lower train.batch_size or detector.image.*, or use --device cpu",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("frcnn: interrupted; the same command goes on with a training from its last checkpoint", file=sys.stderr)
        return 130
    return status or 0


def _demo(options: argparse.Namespace) -> None:
    from frcnn.data.toy import write_toy
    from frcnn.training.folder import run_folder
    from frcnn.training.run import train

    out = run_folder(options.out, "demo")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: exists and is not overwritten; choose another folder with --out")
    print(f"drawing the toy data set in {out / 'data'}")
    write_toy(out / "data", seed=1)
    with _TrainingProgress() as progress:
        detector, run = train(
            out / "data", out=out / "run", settings=DEMO_SETTINGS, offline=True, on_step=progress, log=progress.log
        )
    _evaluate_and_draw(detector, run)
    print(f"Next: frcnn predict {run} PHOTO.jpg; frcnn train YOUR_DATA")


def _data_toy(options: argparse.Namespace) -> None:
    from frcnn.data.toy import write_toy

    write_toy(options.out, seed=options.seed)
    print(f"toy data set in {options.out}; next: frcnn train {options.out}")


def _data_public(options: argparse.Namespace) -> None:
    from frcnn.data.download import PUBLIC_SETS, fetch

    public = PUBLIC_SETS[options.name]
    print(f"{public.about}; licence: {public.licence}")
    with _DownloadProgress() as progress:
        fetch(options.name, options.out, given=options.given, on_bytes=progress, log=tqdm.write)
    print(f"{options.name} in {options.out}; next: frcnn train {options.out}")


def _convert(options: argparse.Namespace) -> None:
    from frcnn.data.convert import convert

    settings = [*options.set, *_data_settings(options)]
    if options.seed is not None:
        settings.append(f"data.split_seed={options.seed}")
    with _CountProgress("writing", "image") as progress:
        done = convert(
            options.data,
            options.out,
            options.to,
            merge(overrides=settings).data,
            link=options.link,
            on_image=progress,
        )
    for note in done.notes:
        print(note)
    images = ", ".join(f"{count} {name}" for name, count in done.images.items())
    print(f"{options.out}: {images} images, {done.objects} objects, as {options.to}")


def _check(options: argparse.Namespace) -> int:
    from frcnn.checking.fix import CHANGES_FILE, fix
    from frcnn.checking.pictures import write_pictures
    from frcnn.checking.report import check

    settings = [*options.set, *_data_settings(options)]
    config = merge(base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=settings)
    with _CountProgress("looking at", "image") as progress:
        found = check(options.data, config, on_image=progress)
    with _only_json(options.json):
        print(found.text())
        if options.pictures is not None:
            files = write_pictures(found, options.pictures)
            print(f"\n{len(files)} contact sheets in {options.pictures}")
        if options.fix is not None:
            fixed = fix(found, options.fix)
            print(f"\na corrected copy is in {options.fix} ({fixed.format}); {CHANGES_FILE} there lists what was done:")
            for change in fixed.changes[:20]:
                print(f"  {change}")
            if len(fixed.changes) > 20:
                print(f"  ... and {len(fixed.changes) - 20} more")
        verdict = f"{len(found.errors)} errors, {len(found.warnings)} warnings"
        print(f"\n{verdict if found.problems else 'nothing found that would spoil a training'}")
    if options.json is not None:
        _write_json(options.json, found.to_json())
    if found.errors:
        return 2
    return 1 if options.strict and found.warnings else 0


def _annotate(options: argparse.Namespace) -> None:
    try:
        from frcnn.annotate.server import serve
    except ModuleNotFoundError as error:
        where = "pip install 'frcnn[annotate]', or in a clone: pip install '.[annotate]'"
        raise ValueError(f"frcnn annotate needs {error.name}, which is missing: {where}") from None
    from frcnn.data.editing import Editor

    settings = [] if options.format is None else [f"data.format={options.format}"]
    with _CountProgress("looking at", "image") as progress:
        editor = Editor(
            options.folder,
            merge(overrides=settings).data,
            class_names=[name.strip() for name in (options.classes or "").split(",") if name.strip()],
            on_image=progress,
        )
    for reason in editor.broken.values():
        print(f"cannot be changed here: {reason}")
    for note in _not_shown(options.folder, {image for _, image in editor.images}):
        print(note)
    done = sum(count is not None for count in editor.counts)
    print(f"{options.folder}: {editor.format}, {done} of {len(editor.images)} images are annotated")

    def on_ready(address: str) -> None:
        print(f"open {address}\nevery change is saved at once; Ctrl-C stops", flush=True)
        if options.open:
            webbrowser.open(address)

    propose = _proposer(options.model, options.min_score) if options.model is not None else None
    with suppress(KeyboardInterrupt):
        serve(editor, host=options.host, port=options.port, propose=propose, on_ready=on_ready)
    print(f"stopped; next: frcnn check {options.folder}")


def _not_shown(folder: Path, shown: set[Path]) -> Iterator[str]:
    from frcnn.data.images import IMAGE_SUFFIXES

    files = [file for file in folder.rglob("*") if not file.name.startswith(".") and file not in shown]
    for suffixes, advice in (
        (IMAGE_SUFFIXES, "they are in no set, or in sub-folders, which can be annotated by themselves"),
        ({".heic", ".heif", ".avif"}, "convert them to JPEG"),
    ):
        found = sorted(file for file in files if file.suffix.lower() in suffixes)
        if found:
            yield f"{len(found)} images are not shown, e.g. {found[0]}: {advice}"


def _proposer(run: Path, min_score: float) -> Callable[[Path], "Prediction"]:
    from frcnn.nn.checkpoint import load
    from frcnn.prediction import predict

    detector = load(run)
    return lambda image: predict(detector, image, min_score=min_score)[0]


def _data_settings(options: argparse.Namespace) -> list[str]:
    """Of --format and --split."""
    settings = [] if options.format is None else [f"data.format={options.format}"]
    return settings if options.split is None else [*settings, f"data.split=[{options.split}]"]


def _train(options: argparse.Namespace) -> None:
    from frcnn.training.run import train

    settings = [*options.set, *_data_settings(options)]
    for name in ("epochs", "device", "seed", "scheme", "precision", "logger"):
        if getattr(options, name) is not None:
            settings.append(f"train.{name}={getattr(options, name)}")
    for name, asked in (
        ("deterministic", options.deterministic),
        ("fast", options.fast),
        ("skip_if_trained", options.make),
    ):
        if asked:
            settings.append(f"train.{name}=true")
    with _TrainingProgress() as progress:
        detector, run = train(
            options.data,
            out=options.out,
            base_model=options.base_model,
            recipe=options.recipe,
            weights=options.weights,
            config=options.config,
            settings=settings,
            offline=options.offline,
            resume=options.resume,
            on_step=progress,
            log=progress.log,
        )
    print(f"model in {run}; next: frcnn predict {run} IMAGE")
    if _has_test_images(detector):
        _evaluate_and_draw(detector, run)
    else:
        print(f"the data has no test images, so nothing is measured; frcnn predict {run} IMAGE shows detections")


def _evaluate(options: argparse.Namespace) -> None:
    from frcnn.nn.checkpoint import load

    detector = load(options.run_folder)
    own_test = options.data is None and options.split == "test" and options.run_folder.is_dir()
    with _only_json(options.json):
        if own_test:
            evaluation = _evaluate_and_draw(detector, options.run_folder)
        else:
            evaluation = _evaluated(detector, options.data, options.split, options.format)
            print(evaluation.table())
    if options.json is not None:
        _write_json(options.json, evaluation.to_json())


def _predict(options: argparse.Namespace) -> None:
    from frcnn.nn.checkpoint import load
    from frcnn.prediction import predict, to_json

    detector = load(options.run_folder)
    with _CountProgress("detecting", "image") as progress:
        predictions = predict(detector, options.images, min_score=options.min_score, on_image=progress)
    folder = options.out
    if folder is None and options.run_folder.is_dir():
        folder = options.run_folder / "predictions"
    with _only_json(options.json):
        for prediction in predictions:
            print(f"{prediction.image}: {len(prediction.names) or 'no'} detections")
            for box, score, name in zip(prediction.boxes, prediction.scores, prediction.names, strict=True):
                print(f"  {name:>15} {score:.3f}  {' '.join(f'{value:.1f}' for value in box)}")
        if folder is not None:
            _save_pictures(detector, predictions, folder, min_score=options.min_score)
    if options.json is not None:
        _write_json(options.json, to_json(predictions))


def _config(options: argparse.Namespace) -> None:
    merged = merge(base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=options.set)
    print(dump_yaml(merged), end="")


def _nodes(options: argparse.Namespace) -> None:
    from frcnn.nn.survey import survey_nodes

    name: str = options.name
    is_architecture = name.startswith(("torchvision:", "timm:"))
    base_model = None if is_architecture else merge(base_model=name).base_model
    nodes = survey_nodes(name if base_model is None else base_model.architecture, options.image_size)
    if options.json is not None:
        _write_json(options.json, json.dumps([node._asdict() for node in nodes], indent=2) + "\n")
        return
    roles: dict[str, list[str]] = defaultdict(list)
    for setting in ("input_node", "last_conv_node", "train_from_node", "pool_node", "last_hidden_node"):
        given = getattr(base_model, setting, None)
        for node in [given] if isinstance(given, str) else given or ():
            roles[node].append(setting)
    width = max(len(node.name) for node in nodes)
    print(f"{'node':<{width}}  {'output':>17}  stride  parameters")
    for node in nodes:
        shape = " x ".join(map(str, node.shape))
        notes = (["(block)"] if node.block else []) + [f"<- {role}" for role in roles[node.name]]
        stride = node.stride if node.stride is not None else "-"
        print(f"{node.name:<{width}}  {shape:>17}  {stride:>6}  {node.parameters:>10,}  {' '.join(notes)}".rstrip())
    print(
        f"(for an image of {options.image_size[0]} x {options.image_size[1]}; a block's name stands for its last node, "
        f"as train_from_node for its first)"
    )


def _base_models(options: argparse.Namespace) -> None:
    from frcnn.nn.survey import survey

    names = options.names or base_model_names()
    facts = []
    with _CountProgress("looking at", "base model") as progress:
        for name in names:
            facts.append(survey(name))
            progress(len(facts), len(names))
    if options.json is not None:
        _write_json(options.json, json.dumps([fact._asdict() for fact in facts], indent=2) + "\n")
        return
    width = max(len(fact.name) for fact in facts)
    print(f"{'name':<{width}}  parameters  {'stride':<14}  GFLOP  weights")
    for fact in facts:
        strides = " ".join(map(str, fact.strides))
        where = "here" if fact.here else "not here"
        print(
            f"{fact.name:<{width}}  {fact.parameters / 1e6:>8.1f} M  {strides:<14}  {fact.gflop:>5.0f}  {where:>8}, "
            f"{fact.weights}"
        )
    print(
        "(parameters of the detector for 20 classes; GFLOP of its layers for one image of 850 x 850 and its proposals)"
    )


def _has_test_images(detector: "FasterRCNN") -> bool:
    from frcnn.data.dataset import read_split

    return bool(read_split(Path(str(detector.config.data.path)), "test", detector.config.data))


def _evaluate_and_draw(detector: "FasterRCNN", run: Path) -> "Evaluation":
    """Measure on the RUN's own test images; table, evaluation.json and images/."""
    evaluation = _evaluated(detector, None, "test")
    print(evaluation.table())
    images = f"{evaluation.images} images" + (", so few that it is rough" if evaluation.images < _FEW else "")
    print(f"({evaluation.metric}; {images}; {evaluation.seconds_per_image:.2f} s each)")
    draw = detector.config.detector.draw
    if processes.is_first():
        write_text(run / "evaluation.json", evaluation.to_json())
    if processes.is_first() and draw.save:
        _save_pictures(detector, evaluation.predictions, run / "images", min_score=draw.min_score, draw=draw)
    return evaluation


def _evaluated(detector: "FasterRCNN", data: Path | None, split: str, data_format: str | None = None) -> "Evaluation":
    from frcnn.evaluation.report import evaluate

    with _CountProgress("evaluating", "image") as progress:
        return evaluate(detector, data, split=split, data_format=data_format, on_batch=progress)


def _save_pictures(
    detector: "FasterRCNN",
    predictions: Iterable["Prediction"],
    folder: Path,
    *,
    min_score: float,
    draw: "DrawSettings | None" = None,
) -> None:
    from frcnn import drawing
    from frcnn.prediction import Evaluator

    folder.mkdir(parents=True, exist_ok=True)
    evaluator = Evaluator(detector)
    predictions = list(predictions)
    used = {Path(prediction.image).resolve() for prediction in predictions}  # an input is never overwritten
    for prediction in predictions:
        background = unregressed = None
        if draw is not None and (draw.background or draw.unregressed):
            boxes, probabilities = evaluator.process_image(prediction.image)
            is_background = probabilities.argmax(axis=1) == 0
            sure = ~is_background & (probabilities.max(axis=1) >= min_score)
            background = boxes[is_background] if draw.background else None
            unregressed = evaluator.unregressed(prediction.image)[sure] if draw.unregressed else None
        picture = drawing.draw(
            prediction.image,
            prediction,
            classes=detector.classes,
            min_score=min_score,
            background=background,
            unregressed=unregressed,
        )
        stem = Path(prediction.image).stem
        names = (f"{stem}{ending}-detections.jpg" for ending in chain([""], (f"-{i}" for i in count(2))))
        file = next(file for name in names if (file := (folder / name).resolve()) not in used)
        used.add(file)
        with whole_file(file) as partial:
            picture.save(partial, quality=92)
    print(f"pictures in {folder}")


def _only_json(file: str | None) -> AbstractContextManager[Any]:
    """Where JSON goes to standard output, what people read goes to standard error."""
    return redirect_stdout(sys.stderr) if file == "-" else nullcontext()


def _write_json(file: str, text: str) -> None:
    if file == "-":
        print(text, end="")
    else:
        write_text(Path(file), text)


class _DownloadProgress:
    """A bar for each file on a terminal; else a line every ten seconds."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.told = 0.0

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self._update

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _update(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            if time.monotonic() - self.told >= _PLAIN_INTERVAL:
                self.told = time.monotonic()
                print(f"{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)
            return
        if self.bar is None or self.bar.desc != name:
            if self.bar is not None:
                self.bar.close()
            self.bar = tqdm(desc=name, unit="B", unit_scale=True, leave=False)
            self.bar.initial = self.bar.n = done  # what an earlier attempt has brought does not count for speed
        self.bar.total = total or None
        self.bar.update(done - self.bar.n)


class _CountProgress:
    """A bar that counts; nothing where the output is no terminal, since this does not take long."""

    def __init__(self, what: str, unit: str) -> None:
        self.bar: tqdm[Any] = tqdm(desc=what, unit=unit, disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> Callable[[int, int], None]:
        return self._update

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _update(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)


class _TrainingProgress:
    """A bar with losses, speed, memory and time left on a terminal; else a line every ten seconds."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.start = self.last = 0.0
        self.done = 0  # steps before this start
        self.losses: dict[str, float] = {}

    def __enter__(self) -> "_TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def log(self, line: str) -> None:
        """Print a line without breaking the bar."""
        tqdm.write(line)

    def __call__(self, report: "StepReport") -> None:
        now = time.monotonic()
        if not self.start:
            self.start, self.done = now - report.seconds, report.step - 1
        # Running means: single steps jump too much to be read.
        old = self.losses if self.losses.keys() >= report.losses.keys() else report.losses
        self.losses = {name: 0.95 * old[name] + 0.05 * value for name, value in report.losses.items()}
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        loss, memory = f"{sum(self.losses.values()):.3f} ({parts})", f"{report.memory / 1e9:.1f} GB"
        each = (now - self.start) / (report.step - self.done)
        speed = f"{report.images / each:.2f} images/s"
        if sys.stderr.isatty():
            if self.bar is None:
                bar_format = "{desc} {bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
                self.bar = tqdm(total=report.steps, initial=self.done, bar_format=bar_format, dynamic_ncols=True)
            self.bar.set_description(f"{report.phase}, epoch {report.epoch}", refresh=False)
            self.bar.set_postfix_str(f"{speed}, {memory}, loss {loss}", refresh=False)
            self.bar.update()
        elif now - self.last >= _PLAIN_INTERVAL or report.step == report.steps:
            self.last = now
            print(
                f"{report.phase}, epoch {report.epoch}, step {report.step}/{report.steps}: loss {loss}, "
                f"{speed}, {memory}, {each * (report.steps - report.step):.0f} s left",
                flush=True,
            )


@contextmanager
def _silence() -> Iterator[None]:
    """Of several processes, only the first one talks."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except Exception as error:
            print(f"frcnn: error in process {processes.rank()}: {error}", file=sys.__stderr__)
            raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="frcnn",
        description="Faster R-CNN that trains on a few labelled photos, on an ordinary computer.",
        epilog="example: frcnn demo",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        where: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str, example: str
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = where.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
        )
        added.set_defaults(run=run)
        return added

    demo = command(commands, "demo", _demo, "draw a toy data set, train on it, measure and show", "frcnn demo")
    demo.add_argument("--out", type=Path, help="new folder for data and RUN (default: runs/demo, numbered)")

    data = commands.add_parser(
        "data", help="make a data set, or download a public one", epilog="example: frcnn data toy my_toy --seed 1"
    )
    sets = data.add_subparsers(title="data sets", required=True, metavar="NAME")
    toy = command(
        sets,
        "toy",
        _data_toy,
        "draw refrigerator shelves with 16 classes of groceries",
        "frcnn data toy my_toy",
    )
    toy.add_argument("out", type=Path, metavar="OUT", help="new folder")
    toy.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default: 0)")
    for name, text in _PUBLIC.items():
        public = command(sets, name, _data_public, f"download {text}", f"frcnn data {name} {name}")
        public.set_defaults(name=name)
        public.add_argument("out", type=Path, metavar="OUT", help="new folder")
        public.add_argument(
            "--from",
            dest="given",
            type=Path,
            metavar="FOLDER",
            help="where its archives lie already; no connection is opened then",
        )

    check = command(
        commands,
        "check",
        _check,
        "find what would spoil a training: in images, boxes, classes, splits and anchors",
        "frcnn check my_photos --pictures sheets",
    )
    check.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    _add_settings(check)
    _add_data_settings(check)
    check.add_argument("--json", metavar="FILE", help="write all of it there ('-' prints it)")
    check.add_argument(
        "--strict", action="store_true", help="exit status 1 if there are warnings (2 if errors, always)"
    )
    check.add_argument("--pictures", type=Path, metavar="DIR", help="draw contact sheets: a sample, and every defect")
    check.add_argument("--fix", type=Path, metavar="OUT", help="write a corrected copy, and a list of what was done")

    annotate = command(
        commands,
        "annotate",
        _annotate,
        "draw boxes on a page in the browser",
        "frcnn annotate my_photos --classes milk,butter",
    )
    annotate.add_argument("folder", type=Path, metavar="FOLDER", help="photos, or a data set in any format")
    annotate.add_argument("--classes", metavar="A,B,...", help="names to choose from (more can be added on the page)")
    annotate.add_argument("--model", type=Path, metavar="RUN", help="a trained detector that proposes boxes")
    annotate.add_argument(
        "--min-score", type=_fraction, default=0.5, help="leave out proposed boxes under it (default: 0.5)"
    )
    annotate.add_argument("--format", metavar="NAME", help="of the data (default: found by looking)")
    annotate.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1, this machine only)"
    )
    annotate.add_argument(
        "--port", type=int, choices=range(65536), default=8000, metavar="N", help="0: a free one (default: 8000)"
    )
    annotate.add_argument("--open", action="store_true", help="open the page in the browser")

    convert = command(
        commands,
        "convert",
        _convert,
        "write a data set in another format, or share out its images",
        "frcnn convert my_photos my_coco --to coco --split 0.8,0.1,0.1",
    )
    convert.add_argument("data", type=Path, metavar="SRC", help="folder of images and boxes")
    convert.add_argument("out", type=Path, metavar="DST", help="new folder")
    convert.add_argument(
        "--to", required=True, metavar="FORMAT", help="folders, map_files, pascal_voc, coco, yolo or csv"
    )
    how = convert.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    how.add_argument("--link", action="store_true", help="symbolic links to the images instead of copies")
    _add_data_settings(convert)
    convert.add_argument("--seed", type=int, metavar="N", help="another number draws another split (default: 0)")
    convert.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, e.g. data.val_set=val"
    )

    train = command(
        commands,
        "train",
        _train,
        "train a detector on a folder of images and boxes, and measure it on its test images",
        "frcnn train my_photos --epochs 20 --set train.lr=0.005",
    )
    train.add_argument("data", type=Path, nargs="?", metavar="DATA", help="folder of images and boxes")
    _add_settings(train)
    _add_data_settings(train)
    train.add_argument(
        "--weights",
        default="auto",
        metavar="FILE|RUN|coco|auto|none",
        help="of the base model or of a whole detector; coco: the one trained on COCO (default: auto, the first source "
        "that has the base model's)",
    )
    train.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
    train.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train")
    train.add_argument("--seed", type=int, metavar="N", help="of everything random")
    train.add_argument(
        "--scheme", choices=("end_to_end", "alternating"), help="all parts at once, or the paper's four steps"
    )
    train.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="of the layers (default: auto, the fastest safe one)",
    )
    train.add_argument(
        "--deterministic", action="store_true", help="the same seed gives the same weights, bit by bit (on the CPU)"
    )
    train.add_argument("--fast", action="store_true", help="one epoch on a few images: does my set-up work?")
    train.add_argument("--make", action="store_true", help="do not train if the RUN holds a trained model already")
    train.add_argument(
        "--resume",
        action="store_true",
        help="insist on going on with a training that was cut off (the same command does so by itself)",
    )
    train.add_argument("--logger", choices=("none", "tensorboard"), help="where metrics go besides metrics.jsonl")
    train.add_argument("--offline", action="store_true", help="never open a connection")
    train.add_argument("--out", type=Path, metavar="RUN", help="folder (default: runs/DATA-MODEL, numbered)")

    evaluate = command(
        commands,
        "evaluate",
        _evaluate,
        "measure a trained detector: average precision of each class, and pictures",
        "frcnn evaluate runs/demo/run",
    )
    evaluate.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training, or coco:NAME")
    evaluate.add_argument("--data", type=Path, help="other data than it was trained on")
    evaluate.add_argument("--format", metavar="NAME", help="of that data (default: found by looking)")
    evaluate.add_argument("--split", default="test", choices=("train", "test"), help="which images (default: test)")
    evaluate.add_argument("--json", metavar="FILE", help="write the result there ('-' prints it)")

    predict = command(
        commands,
        "predict",
        _predict,
        "detect objects in images",
        "frcnn predict runs/demo/run photo.jpg holiday/ --json detections.json",
    )
    predict.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training, or coco:NAME")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER")
    predict.add_argument(
        "--min-score", type=_fraction, default=0.5, help="leave out detections under it (default: 0.5)"
    )
    predict.add_argument("--out", type=Path, metavar="DIR", help="folder for pictures (default: RUN/predictions)")
    predict.add_argument("--json", metavar="FILE", help="write the detections there ('-' prints them alone)")

    nodes = command(
        commands,
        "nodes",
        _nodes,
        "list a classifier's nodes, to choose where to cut it into a base model",
        "frcnn nodes torchvision:resnet50",
    )
    nodes.add_argument("name", metavar="NAME", help="a base model, its file, torchvision:NAME or timm:NAME")
    nodes.add_argument(
        "--image-size", type=_image_size, default=(224, 224), metavar="HxW", help="pixels (default: 224x224)"
    )
    nodes.add_argument("--json", metavar="FILE", help="write them there instead ('-' prints them)")

    base_models = command(
        commands,
        "base-models",
        _base_models,
        "list the base models: size, stride, cost, and where their weights are",
        "frcnn base-models resnet50 resnet50-fpn",
    )
    base_models.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    base_models.add_argument("--json", metavar="FILE", help="write them there instead ('-' prints them)")

    config = command(
        commands,
        "config",
        _config,
        "print all settings, merged, with a comment for each",
        "frcnn config --base-model vgg16 --set train.epochs=5",
    )
    _add_settings(config)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base-model", metavar="NAME", help="one that `frcnn base-models` lists, or a YAML file of your own"
    )
    parser.add_argument("--recipe", metavar="NAME", help=f"one of {', '.join(recipe_names())}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, e.g. a RUN's config.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; may be given several times",
    )


def _add_data_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="folders, map_files, pascal_voc, coco, yolo, csv, labelme or label_studio (default: found by looking)",
    )
    parser.add_argument(
        "--split",
        metavar="TRAIN,VAL,TEST",
        help="shares of the images, e.g. 0.8,0.1,0.1, where the data has no sets of its own",
    )


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def _image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH in pixels, e.g. 480x640")
    return int(height), int(width)


def _version() -> str:
    from frcnn import __version__

    return __version__
