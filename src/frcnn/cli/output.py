"""What several commands print or write: JSON, the table of an evaluation, pictures of detections."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout, suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn import distributed
from frcnn.cli.progress import CountProgress
from frcnn.files import atomic_write, remove_links, write_text
from frcnn.messages import one_line
from frcnn.run_files import EVALUATION_FILE, REPORT_FILE

if TYPE_CHECKING:
    from frcnn.config import DrawSettings
    from frcnn.detector import Detector
    from frcnn.evaluation.metrics import Metrics
    from frcnn.inference.results import Detections
    from frcnn.nn.faster_rcnn import FasterRCNN

_JPEG_SIDE = 65_500  # pixels: libjpeg writes no larger pictures
_IMAGES = "images"
"""The folder of a run directory for pictures of the test images."""
_PREDICTIONS = "predictions"
"""The folder of a run directory for pictures and videos of predictions."""
_FEW = 10  # images: one object more or less changes their AP visibly


@contextmanager
def interrupted_with(hint: str) -> Iterator[None]:
    """Say what to do next if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(hint) from None


def warn(message: object) -> None:
    """Print a warning, if that is possible."""
    with suppress(OSError):
        print(f"frcnn: warning: {one_line(message)}", file=sys.stderr)


def text_beside_json(file: str | None) -> AbstractContextManager[Any]:
    """If JSON goes to standard output, text for people goes to standard error."""
    return redirect_stdout(sys.stderr) if file == "-" else nullcontext()


def write_json(file: str, text: str) -> None:
    """Write JSON to a file, or to standard output for "-"; always UTF-8."""
    if file != "-":
        write_text(Path(file), text)
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    print(text, end="")


def evaluate_and_print(
    detector: "Detector", data: Path | None, split: str | None = None, data_format: str | None = None
) -> "Metrics":
    """Evaluate on one split, and print the table.

    Raises:
        ValueError: see `Detector.evaluate`; or a format without data, whose format is known.
    """
    if data_format is not None and data is None:
        raise ValueError(f"--format {data_format}: is the format of --data; add --data DATA, or leave out --format")
    with CountProgress("evaluating", "image") as progress:
        metrics = detector.evaluate(data, split=split, format=data_format, on_image=progress)
    print_evaluation(metrics)
    return metrics


def print_evaluation(metrics: "Metrics") -> None:
    """Print the table of average precisions."""
    print(metrics)
    few = ", too few for an accurate AP" if metrics.images < _FEW else ""
    print(f"({metrics.metric}; {metrics.images_of_split()}{few}; {metrics.seconds_per_image:.2f} s per image)")


def store_evaluation(detector: "Detector", metrics: "Metrics", run_dir: Path) -> None:
    """Write metrics.json, report.html and pictures in images/ of the run directory.

    Raises:
        OSError: not all of them can be written.
    """
    try:
        if distributed.is_main_process():
            write_text(run_dir / EVALUATION_FILE, metrics.to_json())
        save_pictures(detector.model, metrics, run_dir)
        write_run_report(detector, metrics, run_dir)
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        raise OSError(f"{run_dir}: the evaluation cannot be stored there ({error})") from None


def write_run_report(
    detector: "Detector",
    metrics: "Metrics",
    model: Path,
    file: Path | None = None,
    data: Path | None = None,
    others: Sequence[tuple[str, dict[str, Any]]] = (),
) -> None:
    """Write the report of an evaluation.

    Args:
        model: run directory, model file or exported file.
        file: to write; None: report.html in the run directory.
        data: that was evaluated; None: that of the run.
        others: runs whose metrics are shown beside these.
    """
    from frcnn.inference.runtimes import TorchRuntime
    from frcnn.report.write import write_report

    if not distributed.is_main_process():
        return
    file = file or model / REPORT_FILE
    with CountProgress("report", "picture") as progress:
        write_report(
            metrics,
            file,
            name=model.resolve().name,
            threshold=detector.runtime.result_settings.predict_threshold,
            model=detector.model if isinstance(detector.runtime, TorchRuntime) else None,
            run_dir=model if model.is_dir() else None,
            data=data,
            others=others,
            on_picture=progress,
        )
    print(f"report in {file}")


def save_pictures(model: "FasterRCNN", metrics: "Metrics", run_dir: Path) -> None:
    """Draw the detections into images/ of the run directory, unless `detector.draw.save` is off."""
    draw = model.settings.detector.draw
    if draw.save and distributed.is_main_process():
        remove_links(run_dir, _IMAGES)
        folder = run_dir / _IMAGES
        files = picture_files([str(each.path) for each in metrics.detections], folder)
        for detections, file in zip(metrics.detections, files, strict=True):
            write_picture(model, detections, file, score_threshold=draw.score_threshold, draw=draw)
        print(f"pictures in {folder}")


def own_pictures(run_dir: Path, *, required: bool) -> Path | None:
    """The folder of a run directory for pictures and videos of predictions.

    Args:
        run_dir: the model.
        required: False: if nothing can be written there, a warning is enough.

    Returns:
        None: there is none.

    Raises:
        OSError: it is required, and nothing can be written there.
    """
    if not run_dir.is_dir():
        return None
    folder = run_dir / _PREDICTIONS
    try:
        remove_links(run_dir, _PREDICTIONS)
        require_writable(folder)
    except OSError as error:
        if required:
            raise
        warn(error)
        return None
    return folder


def require_writable(folder: Path) -> None:
    """Check that pictures can be written, before time is spent on detecting.

    Raises:
        OSError: they cannot.
    """
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        reason = "is not writable" if existing.is_dir() else "is not a folder"
        raise OSError(f"{folder}: cannot write pictures there, {existing} {reason}; choose a folder with --out")


def picture_files(images: Sequence[str | Path], folder: Path) -> Iterator[Path]:
    """Where the picture of each image goes: no file twice, and never the file of an image."""
    used = {Path(image).resolve() for image in images}
    for image in images:
        stem = Path(image).stem
        names = (f"{stem}{ending}-detections.jpg" for ending in chain([""], (f"-{i}" for i in count(2))))
        file = next(file for name in names if (file := folder.resolve() / name) not in used)
        used.add(file)
        yield file


def write_picture(
    model: "FasterRCNN | None",
    detections: "Detections",
    file: Path,
    *,
    score_threshold: float,
    draw: "DrawSettings | None" = None,
) -> None:
    """Draw the detections on their image and write a JPEG file; with a model, also the RoIs that `draw` asks for."""
    background = unregressed = None
    if model is not None and draw is not None and (draw.background or draw.unregressed):
        from frcnn.inference.evaluator import Evaluator

        evaluator = Evaluator(model)
        boxes, probabilities = evaluator.process_image(str(detections.path))
        is_background = probabilities.argmax(axis=1) == 0
        sure = ~is_background & (probabilities.max(axis=1) >= score_threshold)
        background = boxes[is_background] if draw.background else None
        unregressed = evaluator.unregressed(str(detections.path))[sure] if draw.unregressed else None
    shown = detections[detections.confidence >= score_threshold]
    picture = shown.plot(background=background, unregressed=unregressed)
    picture.thumbnail((_JPEG_SIDE, _JPEG_SIDE))  # only if it is larger
    with atomic_write(file) as partial:
        picture.save(partial, quality=92)
