"""`frcnn predict`: detect objects in images and videos."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.cli.options import (
    MODEL_HELP,
    Commands,
    add_command,
    add_json,
    add_precision,
    add_svd,
    add_threshold,
    add_trust,
    open_detector,
    prediction_rules,
)
from frcnn.cli.output import own_pictures, picture_files, require_writable, text_beside_json, write_json, write_picture
from frcnn.cli.predict_parts import add_parts_options, is_parts_command, predict_parts
from frcnn.cli.progress import CountProgress
from frcnn.cli.video import add_video_options, is_video_command, predict_video
from frcnn.files import expand_home
from frcnn.json_text import to_json
from frcnn.messages import one_line, plural

if TYPE_CHECKING:
    from frcnn.inference.results import Detections


def register(commands: Commands) -> None:
    example = "frcnn predict runs/demo/run photo.jpg holiday/ --json detections.json"
    parser = add_command(commands, "predict", run, "detect objects in images and videos", example)
    parser.add_argument("model", type=Path, metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file, folder or pattern, e.g. photos/*.jpg; or one video, the number of a camera, or an address",
    )
    add_threshold(parser)
    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="cut images larger than N pixels into tiles of N x N, and predict the tiles and the whole image, to find "
        "small objects, e.g. 1024 (default: as in training, without the whole image; 0: no tiles)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        metavar="X",
        help="smallest fraction of a tile that it shares with its neighbor, 0 to 0.9 (default: 0.2)",
    )
    add_precision(parser)
    add_svd(parser)
    add_trust(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder for pictures, or a file such as annotated.mp4 (default: predictions in the run directory)",
    )
    add_json(parser, "the detections")
    add_video_options(parser)
    add_parts_options(parser)


def run(options: argparse.Namespace) -> int:
    if is_parts_command(options):
        return predict_parts(options)
    if is_video_command(options):
        return predict_video(options)
    options.images = [Path(text) for text in options.images]
    from frcnn.data.images import IMAGE_SUFFIXES
    from frcnn.data.prefetch import prefetch
    from frcnn.inference.inputs import list_images
    from frcnn.inference.predictor import predict_each
    from frcnn.tracking.ffmpeg import VIDEO_SUFFIXES

    if options.out is not None and options.out.suffix.lower() in {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}:
        raise ValueError(
            f"--out {options.out}: pictures are written to a folder; name one, e.g. --out {options.out.with_suffix('')}"
        )
    is_one = len(options.images) == 1 and options.images[0].is_file() and not options.tile
    detector = open_detector(options, throughput=not is_one)
    rules = prediction_rules(options, detector)
    images = [Path(str(image)) for image in list_images([path for text in options.images for path in _expand(text)])]
    folder: Path | None = options.out
    if folder is None:
        folder = own_pictures(options.model, required=options.json is None)
    else:
        require_writable(folder)
    files = list(picture_files(images, folder or Path()))
    results: list[dict[str, Any]] = []  # for --json; of each image, in order
    errors: list[Exception] = []

    def on_error(error: Exception) -> None:
        results.append({"image": str(images[len(results)]), "error": str(error)})
        errors.append(error)

    def detect() -> "Iterator[tuple[Detections, Path]]":
        for detections in predict_each(detector.runtime, images, on_error=on_error, **rules):
            file = files[len(results)]
            results.append({} if options.json is None else detections.to_dict())
            yield detections, file

    def draw(detected: "tuple[Detections, Path]") -> "Detections":
        detections, file = detected
        if folder is not None:
            write_picture(None, detections, file, score_threshold=rules["threshold"])
        return detections

    with text_beside_json(options.json), CountProgress("detecting", "image") as progress:
        for detections in prefetch(draw, detect(), workers=1):
            progress(len(results), len(images))
            progress.log(f"{one_line(detections.path)}: {plural(len(detections), 'detection')}")
            for box, score, _, name in detections:
                progress.log(f"  {name:>15} {score:.3f}  {' '.join(f'{value:.1f}' for value in box)}")
        if folder is not None and len(errors) < len(images):
            progress.log(f"pictures in {folder}")
    if len(images) == len(errors) == 1:
        raise ValueError(one_line(errors[0])) from errors[0]
    if options.json is not None:
        write_json(options.json, to_json(results))
    if errors:
        with suppress(OSError):  # the exit status still tells
            print(
                f"frcnn: error: skipped {len(errors)} of {plural(len(images), 'image')}:",
                *(one_line(error) for error in errors),
                sep="\n",
                file=sys.stderr,
            )
        return 1
    return 0


def _expand(path: Path) -> list[Path]:
    """The files of a pattern, for shells that do not expand it; "~" is the home folder."""
    path = expand_home(path)
    if path.exists() or not set("*?[") & set(str(path)):
        return [path]
    files = sorted(Path(name) for name in glob(str(path), recursive=True))
    if not files:
        raise FileNotFoundError(f"{path}: no file matches this pattern")
    return files
