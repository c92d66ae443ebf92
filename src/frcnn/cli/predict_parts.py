"""`frcnn predict` of very many images: shards that can be killed and resumed, or a Ray cluster."""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from frcnn.cli.options import DEFAULT_PRECISION, open_detector, positive_integer, prediction_rules
from frcnn.cli.output import warn
from frcnn.cli.progress import CountProgress
from frcnn.messages import one_line, plural

_NEED_PARTS = ("shard", "resume", "parquet", "part_size", "ray")
_NOT_WITH_RAY = ("shard", "resume", "part_size", "svd", "precision")
_ONLY_WITH_RAY = ("workers", "gpus")
_NOT_WITH_PARTS = ("out", "json", "track", "every", "count_line", "count_zone", "counts")


def add_parts_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("very many images", "see docs/many-images.md")
    group.add_argument(
        "--parts",
        metavar="DIR",
        help="write the detections to DIR, in files of many images each, and no pictures; IMAGE is one folder, which "
        "is searched with its subfolders, one text file (.txt) with one path per line, or one pattern in quotes",
    )
    group.add_argument("--shard", metavar="I/N", help="predict shard I of N, I from 0 (default: 0/1, all images)")
    group.add_argument("--resume", action="store_true", help="skip images whose detections are already in DIR")
    group.add_argument("--parquet", action="store_true", help="write Parquet instead of JSON lines")
    group.add_argument(
        "--part-size", type=positive_integer, metavar="N", help="images in a file of DIR (default: 1000)"
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const=True,
        metavar="ADDRESS",
        help="predict on the Ray cluster with this address ('auto': the cluster of this machine); without ADDRESS, on "
        "the one of the environment variable RAY_ADDRESS, else start one on this machine; writes Parquet",
    )
    group.add_argument(
        "--workers", type=positive_integer, metavar="N", help="number of Ray workers (default: one per CPU)"
    )
    group.add_argument("--gpus", type=float, metavar="X", help="GPUs of each Ray worker, e.g. 1 (default: 0)")


def is_parts_command(options: argparse.Namespace) -> bool:
    """Whether the arguments ask for parts.

    Raises:
        ValueError: options that do not belong together.
    """
    is_parts = options.parts is not None
    for name in _NOT_WITH_PARTS if is_parts else _NEED_PARTS:
        if getattr(options, name):
            rule = "cannot be used with --parts, which writes detections only" if is_parts else "needs --parts DIR"
            raise ValueError(f"--{name.replace('_', '-')} {rule}")
    for name in _NOT_WITH_RAY if options.ray else _ONLY_WITH_RAY:
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} {'cannot be used with' if options.ray else 'needs'} --ray")
    if is_parts and len(options.images) > 1:
        raise ValueError(
            f"--parts: name one folder, one list or one pattern, not {len(options.images)} arguments; put a pattern "
            f"in quotes, so that the shell does not expand it"
        )
    return is_parts


def predict_parts(options: argparse.Namespace) -> int:
    """Predict one shard, or everything on a Ray cluster. Some images that cannot be predicted are no failure: a
    scheduler must not start the job again for them."""
    if options.ray:
        return _predict_on_ray(options)
    from frcnn.inference.parts.listing import ALL, Shard
    from frcnn.inference.parts.predict import PART_SIZE, predict_in_parts
    from frcnn.inference.parts.rows import Row
    from frcnn.inference.runtimes import model_sha256

    shard = ALL if options.shard is None else Shard.parse(options.shard)
    detector = open_detector(options, throughput=True)
    rules = prediction_rules(options, detector)
    settings = {
        "model": model_sha256(options.model),
        "precision": options.precision or DEFAULT_PRECISION,
        "svd": options.svd,
    }
    images = 0

    with CountProgress("detecting", "image") as progress:

        def on_row(row: Row) -> None:
            nonlocal images
            images += 1
            progress(images, None)
            if "error" in row:
                warn(row["error"])

        def on_part(file: Path, rows: int) -> None:
            progress.log(f"{one_line(file)}: {plural(rows, 'image')}")
            sys.stdout.flush()  # the log of a job is read while it runs

        done = predict_in_parts(
            detector.runtime,
            options.images[0],
            Path(options.parts),
            settings=settings,
            **rules,
            shard=shard,
            resume=options.resume,
            parquet=options.parquet,
            part_size=options.part_size or PART_SIZE,
            on_row=on_row,
            on_part=on_part,
        )
    print(
        f"shard {shard}: {plural(done.images, 'image')} done, {done.predicted} in this run "
        f"({done.predicted / max(done.seconds, 1e-9):.1f} images per second), {done.errors} of these failed"
    )
    return _status(options.parts, done.predicted, done.errors)


def _predict_on_ray(options: argparse.Namespace) -> int:
    from frcnn.ray import predict, start

    rules = prediction_rules(options, open_detector(options))
    start(None if options.ray is True else options.ray)
    done = predict(
        options.images[0],
        options.model,
        output=options.parts,
        concurrency=options.workers,
        num_gpus=options.gpus or 0,
        trust=options.trust_file,
        **rules,
    )
    print(f"{options.parts}: {plural(done.images, 'image')} done, {done.errors} of these failed")
    return _status(options.parts, done.images, done.errors)


def _status(folder: str, predicted: int, errors: int) -> int:
    """The exit status: 1 if every image failed, because then the paths or the disk are wrong, not the images."""
    if not errors or errors < predicted:
        return 0
    with suppress(OSError):
        print(
            f"frcnn: error: {folder}: all images of this run failed; `error` in the rows says why. Remove the cause, "
            f"delete the files that this run has written, and run the command again",
            file=sys.stderr,
        )
    return 1
