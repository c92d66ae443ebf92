"""`frcnn predict` of very many images: shards that can be killed and resumed, or a Ray cluster."""

import argparse
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from frcnn.cli.options import DEFAULT_PRECISION, open_detector, positive_integer, require_tile
from frcnn.cli.progress import CountProgress
from frcnn.messages import one_line, plural

_LOCAL = "local"
"""--ray without an address."""
_NEED_PARTS = ("shard", "resume", "parquet", "part_size", "ray")
_NOT_WITH_RAY = ("shard", "resume", "part_size", "svd", "precision")
_ONLY_WITH_RAY = ("workers", "gpus")
_NOT_WITH_PARTS = ("out", "json", "track", "every", "count_line", "count_zone", "counts")


def add_parts_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("very many images", "docs/many-images.md")
    group.add_argument(
        "--parts",
        metavar="DIR",
        help="write the detections to DIR, in files of many images each, and no pictures; IMAGE is one folder, which "
        "is searched with its subfolders, one text file (.txt) with a path a line, or one pattern in quotes",
    )
    group.add_argument(
        "--shard", metavar="I/N", help="predict only the Ith of N parts of the images, I from 0 (default: 0/1, all)"
    )
    group.add_argument("--resume", action="store_true", help="leave out the images that DIR holds already")
    group.add_argument("--parquet", action="store_true", help="write Parquet instead of JSON lines")
    group.add_argument(
        "--part-size", type=positive_integer, metavar="N", help="images in a file of DIR (default: 1000)"
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const=_LOCAL,
        metavar="ADDRESS",
        help="predict on the Ray cluster with this address, or start one on this machine; writes Parquet",
    )
    group.add_argument("--workers", type=positive_integer, metavar="N", help="processes of --ray (default: one a CPU)")
    group.add_argument("--gpus", type=float, metavar="X", help="GPUs of each process of --ray, e.g. 1 (default: 0)")


def is_parts_command(options: argparse.Namespace) -> bool:
    """Whether the arguments ask for parts.

    Raises:
        ValueError: options that do not belong together.
    """
    is_parts = options.parts is not None
    wrong = next(filter(options.__getattribute__, _NOT_WITH_PARTS if is_parts else _NEED_PARTS), None)
    if wrong is not None:
        rule = "does not belong to --parts, which writes detections only" if is_parts else "needs --parts DIR"
        raise ValueError(f"--{wrong.replace('_', '-')} {rule}")
    wrong = next(filter(options.__getattribute__, _NOT_WITH_RAY if options.ray else _ONLY_WITH_RAY), None)
    if wrong is not None:
        raise ValueError(f"--{wrong.replace('_', '-')} {'does not belong to' if options.ray else 'needs'} --ray")
    if is_parts and len(options.images) > 1:
        raise ValueError(
            f"--parts: name one folder, one list or one pattern, not {len(options.images)} arguments; put a pattern "
            f"in quotes, so that the shell does not expand it"
        )
    return is_parts


def predict_parts(options: argparse.Namespace) -> int:
    """Predict one shard, or everything on a Ray cluster. Images that cannot be predicted are no failure: a scheduler
    must not start the job again for them."""
    if options.ray:
        return _predict_on_ray(options)
    from frcnn.inference.parts import ALL, PART_SIZE, Row, Shard, predict_in_parts
    from frcnn.inference.runtimes import model_sha256

    shard = ALL if options.shard is None else Shard.parse(options.shard)
    settings: Mapping[str, Any] = {
        "model": model_sha256(options.model),
        "precision": options.precision or DEFAULT_PRECISION,
        "svd": options.svd,
    }
    detector = open_detector(options)
    require_tile(options, detector)
    runtime = detector.runtime
    own = runtime.result_settings.predict_threshold
    images = 0

    with CountProgress("detecting", "image") as progress:

        def on_row(row: Row) -> None:
            nonlocal images
            images += 1
            progress(images, None)
            if "error" in row:
                with suppress(OSError):
                    print(f"frcnn: warning: {one_line(row['error'])}", file=sys.stderr)

        def on_part(file: Path, rows: int) -> None:
            progress.log(f"{one_line(file)}: {plural(rows, 'image')}")
            sys.stdout.flush()  # the log of a job is read while it runs

        done = predict_in_parts(
            runtime,
            options.images[0],
            Path(options.parts),
            settings=settings,
            threshold=own if options.threshold is None else options.threshold,
            tile=options.tile,
            overlap=0.2 if options.overlap is None else options.overlap,
            shard=shard,
            resume=options.resume,
            parquet=options.parquet,
            part_size=options.part_size or PART_SIZE,
            on_row=on_row,
            on_part=on_part,
        )
    print(
        f"shard {shard}: {plural(done.images, 'image')}, {done.predicted} of them now "
        f"({done.predicted / max(done.seconds, 1e-9):.1f} images per second), "
        f"{done.errors} of these with an error"
    )
    return 0


def _predict_on_ray(options: argparse.Namespace) -> int:
    from frcnn.ray import predict, start

    start(None if options.ray == _LOCAL else options.ray)
    done = predict(
        options.images[0],
        options.model,
        output=options.parts,
        concurrency=options.workers,
        num_gpus=options.gpus or 0,
        threshold=options.threshold,
        tile=options.tile,
        overlap=0.2 if options.overlap is None else options.overlap,
        trust=options.trust_file,
    )
    print(f"{options.parts}: {plural(done.images, 'image')}, {done.errors} of them with an error")
    return 0
