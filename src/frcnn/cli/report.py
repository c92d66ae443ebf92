"""`frcnn report`: evaluate a detector, and write the report."""

import argparse
from pathlib import Path

from frcnn.cli.options import MODEL_HELP, Commands, add_command, add_evaluated_data, add_trust, fraction
from frcnn.cli.output import evaluate_and_print, write_run_report
from frcnn.run_files import REPORT_FILE


def register(commands: Commands) -> None:
    about = "evaluate a detector, and write its metrics and errors as one HTML file"
    parser = add_command(commands, "report", run, about, "frcnn report runs/demo/run --compare runs/other")
    parser.add_argument("model", type=Path, metavar="MODEL", help=MODEL_HELP)
    add_evaluated_data(parser)
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN_DIR",
        help="run directories to compare with; their metrics come from metrics.json",
    )
    parser.add_argument(
        "--store-threshold",
        type=fraction,
        metavar="X",
        help="store X as the default threshold of predict, in a run directory or model file; later exports have it too",
    )
    add_trust(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the HTML file (default: report.html in the run directory; with --data or --split, their names are added: "
        "report-DATA-SPLIT.html)",
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.detector import load
    from frcnn.nn.model_file import store_threshold
    from frcnn.report.write import metrics_of, report_file

    if options.out is None and not options.model.is_dir():
        raise ValueError(f"{options.model}: is not a run directory; name the file to write, e.g. --out {REPORT_FILE}")
    others = metrics_of(options.compare)  # before time is spent on evaluating
    if options.store_threshold is not None:
        store_threshold(options.model, options.store_threshold)
        print(f"{options.model}: predict now uses the threshold {options.store_threshold:g} by default")
    detector = load(options.model, trust=options.trust_file)
    metrics = evaluate_and_print(detector, options.data, options.split, options.format)
    file = options.out or options.model / report_file(options.data, options.split)
    write_run_report(detector, metrics, options.model, file, options.data, others)
