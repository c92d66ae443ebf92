"""The commands. Each takes what the parser made of its arguments, prints, and returns its exit status (None: 0).

Modules are imported by the commands that use them: help comes at once, and exported files are run where torch is not
installed.
"""

import argparse
import json
import sys
import webbrowser
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout, suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from frcnn import processes
from frcnn.cli.progress import CountProgress, DownloadProgress, TrainingProgress
from frcnn.files import whole_file, write_text

if TYPE_CHECKING:
    from frcnn.config import DrawSettings
    from frcnn.deploy.parity import Pass
    from frcnn.detectors import Detector
    from frcnn.evaluation.report import Evaluation
    from frcnn.nn.detector import FasterRCNN
    from frcnn.types import Prediction

DEMO_SETTINGS = ("train.epochs=10", "train.seed=1")
_JPEG_SIDE = 65_500  # pixels: libjpeg writes no larger pictures
_FEW = 10  # images: one object more or less is seen in their AP


def demo(options: argparse.Namespace) -> None:
    from frcnn.data.toy import write_toy
    from frcnn.training.folder import run_folder
    from frcnn.training.run import train

    out = run_folder(options.out, "demo")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: exists and is not overwritten; choose another folder with --out")
    print(f"drawing the toy data set in {out / 'data'}")
    write_toy(out / "data", seed=1)
    with TrainingProgress() as progress:
        detector, run = train(
            out / "data", out=out / "run", settings=DEMO_SETTINGS, offline=True, on_step=progress, log=progress.log
        )
    _evaluate_and_draw(detector, run)
    print(f"Next: frcnn predict {run} PHOTO.jpg; frcnn train YOUR_DATA")


def data_toy(options: argparse.Namespace) -> None:
    from frcnn.data.toy import write_toy

    write_toy(options.out, seed=options.seed)
    print(f"toy data set in {options.out}; next: frcnn train {options.out}")


def data_public(options: argparse.Namespace) -> None:
    from frcnn.data.download import PUBLIC_SETS, fetch

    public = PUBLIC_SETS[options.name]
    print(f"{public.about}; licence: {public.licence}")
    with DownloadProgress() as progress:
        fetch(options.name, options.out, given=options.given, on_bytes=progress, log=progress.log)
    print(f"{options.name} in {options.out}; next: frcnn train {options.out}")


def convert(options: argparse.Namespace) -> None:
    from frcnn.config import merge
    from frcnn.data.convert import convert

    settings = [*options.set, *_data_settings(options)]
    if options.seed is not None:
        settings.append(f"data.split_seed={options.seed}")
    with CountProgress("writing", "image") as progress:
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


def check(options: argparse.Namespace) -> int:
    from frcnn.checking.fix import CHANGES_FILE, fix
    from frcnn.checking.pictures import write_pictures
    from frcnn.checking.report import check
    from frcnn.config import merge

    settings = [*options.set, *_data_settings(options)]
    config = merge(base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=settings)
    with CountProgress("looking at", "image") as progress:
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


def annotate(options: argparse.Namespace) -> None:
    from frcnn.annotate.server import serve
    from frcnn.config import merge
    from frcnn.data.editing import Editor

    settings = [] if options.format is None else [f"data.format={options.format}"]
    with CountProgress("looking at", "image") as progress:
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


def train(options: argparse.Namespace) -> None:
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
    with TrainingProgress() as progress:
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


def evaluate(options: argparse.Namespace) -> None:
    detector = _opened(options.run_folder, options.svd, options.precision)
    own = options.run_folder.is_dir() and options.svd is None and options.precision in (None, "fp32")
    own_test = own and options.data is None and options.split == "test"
    with _only_json(options.json):
        if own_test:
            evaluation = _evaluate_and_draw(cast("FasterRCNN", detector), options.run_folder)
        else:
            evaluation = _evaluated(detector, options.data, options.split, options.format)
    if options.json is not None:
        _write_json(options.json, evaluation.to_json())


def predict(options: argparse.Namespace) -> None:
    from frcnn.data.ahead import read_ahead
    from frcnn.prediction import list_images, predict_each, to_json

    if options.overlap is not None and options.tile is None:
        raise ValueError(f"overlap: {options.overlap} is a share of a tile; say how large tiles are, e.g. --tile 1024")
    overlap = 0.2 if options.overlap is None else options.overlap
    detector = _opened(options.run_folder, options.svd, options.precision)
    images = cast("list[Path]", list_images(options.images))
    folder = options.out
    if folder is None and options.run_folder.is_dir():
        folder = options.run_folder / "predictions"

    def write(found: "tuple[Prediction, Path]") -> "Prediction":
        prediction, file = found
        if folder is not None:
            _write_picture(detector, prediction, file, min_score=options.min_score)
        return prediction

    found = predict_each(detector, images, min_score=options.min_score, tile=options.tile, overlap=overlap)
    files = _picture_files(images, folder or Path())
    predictions = []
    with _only_json(options.json), CountProgress("detecting", "image") as progress:
        for done, prediction in enumerate(read_ahead(write, zip(found, files, strict=True), workers=1), start=1):
            if options.json is not None:
                predictions.append(prediction)
            progress(done, len(images))
            progress.log(f"{prediction.image}: {len(prediction.names) or 'no'} detections")
            for box, score, name in zip(prediction.boxes, prediction.scores, prediction.names, strict=True):
                progress.log(f"  {name:>15} {score:.3f}  {' '.join(f'{value:.1f}' for value in box)}")
        if folder is not None:
            progress.log(f"pictures in {folder}")
    if options.json is not None:
        _write_json(options.json, to_json(predictions))


def export(options: argparse.Namespace) -> None:
    from frcnn.deploy.export import export

    with CountProgress("proving", "photo") as progress:
        done = export(
            options.run_folder,
            options.to,
            options.out,
            image_size=options.image_size,
            batch=options.batch,
            raw=options.raw,
            precision=options.precision,
            svd=options.svd,
            images_as=options.images_as,
            data=options.data,
            calibrate=options.calibrate,
            max_ap_loss=options.max_ap_loss,
            log=progress.log,
            on_image=progress,
        )
    for one in done.passes:
        print(f"{one.name}: {_compared(one, 'PyTorch')}")
    if done.quantised is not None:
        print(f"quantised: {_compared(done.quantised, 'before')}")
    if done.compressed is not None:
        print(f"compressed: {_compared(done.compressed, 'before')}")
    size = sum(file.stat().st_size for file in done.files) / 1e6
    verdict = "the same model" if (options.precision, options.svd) == ("fp32", None) else "near enough"
    print(f"{verdict}: {' and '.join(map(str, done.files))} ({size:.1f} MB); the proof: {done.proof}")
    print(f"next: frcnn predict {done.files[0]} IMAGE")


def _opened(model: Path, svd: int | None, precision: str | None) -> "Detector":
    """What a path leads to; faster and less exact, if that is wished."""
    from frcnn.detectors import is_exported, open_detector

    if svd is None and precision is None:
        return open_detector(model)
    if is_exported(model):
        option = f"--svd {svd}" if svd is not None else f"--precision {precision}"
        raise ValueError(f"{option}: an exported file stays as it is; `frcnn export RUN {option}` writes one so")
    from frcnn.nn.checkpoint import load
    from frcnn.nn.compression import compressed
    from frcnn.nn.device import choose_precision

    detector = load(model)
    if svd is not None:
        detector = compressed(detector, svd)
    if precision == "auto":
        precision = detector.config.train.precision
    return detector.set_precision(choose_precision(precision or "fp32", detector.mean.device))


def _compared(one: "Pass", other: str) -> str:
    found = f"AP {one.ap:.4f} ({other}: {one.other_ap:.4f}), "
    if one.difference.without_match == 0:
        pixels, score = one.difference.pixels, one.difference.score
        found = f"{one.difference.detections} detections, all within {pixels:.5f} px and {score:.7f} of the score, "
    return f"{found}{one.seconds:.3f} s a photo ({other}: {one.other_seconds:.3f} s)"


def bench(options: argparse.Namespace) -> None:
    from frcnn.bench.report import table, to_json
    from frcnn.bench.run import run_bench

    if options.rounds < 1:
        raise ValueError(f"--rounds {options.rounds}: at least one")
    with _only_json(options.json):
        found = run_bench(
            options.what,
            options.base_model,
            options.device,
            options.precision,
            rounds=options.rounds,
            compile_mode=options.compile,
            log=print,
        )
        print(f"\n{table(found)}")
    if options.json is not None:
        _write_json(options.json, to_json(found))


def config(options: argparse.Namespace) -> None:
    from frcnn.config import dump_yaml, merge

    merged = merge(base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=options.set)
    print(dump_yaml(merged), end="")


def nodes(options: argparse.Namespace) -> None:
    from frcnn.config import merge
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


def base_models(options: argparse.Namespace) -> None:
    from frcnn.config import base_model_names
    from frcnn.nn.survey import survey

    names = options.names or base_model_names()
    facts = []
    with CountProgress("looking at", "base model") as progress:
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
    draw = detector.config.detector.draw
    if processes.is_first():
        write_text(run / "evaluation.json", evaluation.to_json())
    if processes.is_first() and draw.save:
        _save_pictures(detector, evaluation.predictions, run / "images", min_score=draw.min_score, draw=draw)
    return evaluation


def _evaluated(detector: "Detector", data: Path | None, split: str, data_format: str | None = None) -> "Evaluation":
    """Measure, and print the table."""
    from frcnn.evaluation.evaluate import evaluate

    with CountProgress("evaluating", "image") as progress:
        evaluation = evaluate(detector, data, split=split, data_format=data_format, on_batch=progress)
    print(evaluation.table())
    images = f"{evaluation.images} images" + (", so few that it is rough" if evaluation.images < _FEW else "")
    print(f"({evaluation.metric}; {images}; {evaluation.seconds_per_image:.2f} s each)")
    return evaluation


def _save_pictures(
    detector: "Detector", predictions: Sequence["Prediction"], folder: Path, *, min_score: float, draw: "DrawSettings"
) -> None:
    files = _picture_files([prediction.image for prediction in predictions], folder)
    for prediction, file in zip(predictions, files, strict=True):
        _write_picture(detector, prediction, file, min_score=min_score, draw=draw)
    print(f"pictures in {folder}")


def _picture_files(images: Sequence[str | Path], folder: Path) -> Iterator[Path]:
    """Where the picture of each image goes: no two to the same place, and none to that of an image."""
    used = {Path(image).resolve() for image in images}
    for image in images:
        stem = Path(image).stem
        names = (f"{stem}{ending}-detections.jpg" for ending in chain([""], (f"-{i}" for i in count(2))))
        file = next(file for name in names if (file := (folder / name).resolve()) not in used)
        used.add(file)
        yield file


def _write_picture(
    detector: "Detector",
    prediction: "Prediction",
    file: Path,
    *,
    min_score: float,
    draw: "DrawSettings | None" = None,
) -> None:
    from frcnn import drawing

    background = unregressed = None
    if draw is not None and (draw.background or draw.unregressed):
        from frcnn.evaluator import Evaluator

        evaluator = Evaluator(cast("FasterRCNN", detector))
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
    picture.thumbnail((_JPEG_SIDE, _JPEG_SIDE))  # only if it is larger
    with whole_file(file) as partial:
        picture.save(partial, quality=92)


def _only_json(file: str | None) -> AbstractContextManager[Any]:
    """Where JSON goes to standard output, what people read goes to standard error."""
    return redirect_stdout(sys.stderr) if file == "-" else nullcontext()


def _write_json(file: str, text: str) -> None:
    if file == "-":
        print(text, end="")
    else:
        write_text(Path(file), text)
