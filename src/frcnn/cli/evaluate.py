"""`frcnn evaluate`: average precision of a trained detector."""

import argparse
from pathlib import Path

from frcnn.cli.options import (
    DEFAULT_PRECISION,
    MODEL_HELP,
    Commands,
    add_command,
    add_evaluated_data,
    add_json,
    add_precision,
    add_svd,
    add_trust,
    open_detector,
)
from frcnn.cli.output import evaluate_and_print, store_evaluation, text_beside_json, warn, write_json


def register(commands: Commands) -> None:
    about = "measure the average precision of a trained detector"
    parser = add_command(commands, "evaluate", run, about, "frcnn evaluate runs/demo/run")
    parser.description = (
        f"{parser.description} On the test images of a run directory, also write metrics.json, report.html and "
        "pictures of the detections (images/) there. With --data, --svd, or another --split or --precision, write none "
        "of these; --json writes the metrics."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help=MODEL_HELP)
    add_evaluated_data(parser)
    add_precision(parser)
    add_svd(parser)
    add_trust(parser)
    add_json(parser, "the result")


def run(options: argparse.Namespace) -> None:
    detector = open_detector(options)
    as_trained = options.svd is None and options.precision in (None, DEFAULT_PRECISION)
    of_run = options.model.is_dir() and as_trained and options.data is None and options.split in (None, "test")
    with text_beside_json(options.json):
        metrics = evaluate_and_print(detector, options.data, options.split, options.format)
    if options.json is not None:  # first: the run directory may be read-only
        write_json(options.json, metrics.to_json())
    if of_run:
        with text_beside_json(options.json):
            try:
                store_evaluation(detector, metrics, options.model)
            except OSError as error:
                if options.json is None:
                    raise
                warn(error)
