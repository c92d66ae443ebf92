"""`frcnn check`: report errors and warnings about a data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.cli.options import (
    Commands,
    add_command,
    add_data_settings,
    add_follow_links,
    add_json,
    add_settings,
    data_settings,
)
from frcnn.cli.output import text_beside_json, write_json
from frcnn.cli.progress import CountProgress
from frcnn.json_text import to_json
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import Config
    from frcnn.data.records import Record
    from frcnn.evaluation.suspects import Suspect
    from frcnn.inference.results import Detections

_SHOWN = 20  # changes
_FOLDS = 4


def register(commands: Commands) -> None:
    about = "find errors and warnings in images, boxes, classes, splits and anchors"
    parser = add_command(commands, "check", run, about, "frcnn check my_photos --pictures sheets")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    add_settings(parser)
    add_data_settings(parser, strict=False)
    add_json(parser, "the whole report")
    parser.add_argument("--strict", action="store_true", help="also exit with status 1 for warnings and repairs")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw contact sheets: a sample, and each problem")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="RUN_DIR",
        help="also list labels that are probably wrong, judged by this detector; it should be trained on other images",
    )
    parser.add_argument(
        "--crossval",
        action="store_true",
        help="also list labels that are probably wrong: trains four detectors, each on three quarters of the training "
        "images, and judges the other quarter",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help=f"with --crossval: number of detectors, each of which judges one part of the images (default: {_FOLDS})",
    )
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a corrected copy, and a list of the changes")
    add_follow_links(parser, "DATA", "with --fix: ")


def run(options: argparse.Namespace) -> int:
    from frcnn.config import make_config
    from frcnn.tools.check.check import check_dataset
    from frcnn.tools.check.fix import CHANGES_FILE, fix
    from frcnn.tools.check.pictures import write_pictures
    from frcnn.tools.check.suspects import in_words, write_suspects

    if options.model is not None and options.crossval:
        raise ValueError("--model and --crossval exclude each other: use a trained detector, or train four; give one")
    if options.folds is not None and not options.crossval:
        raise ValueError("--folds is the number of detectors that --crossval trains: add --crossval, or omit --folds")
    config = make_config(
        base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=data_settings(options)
    )
    with CountProgress("checking", "image") as progress:
        report = check_dataset(options.data, config, on_image=progress)
    with text_beside_json(options.json):
        print(report)
        if options.pictures is not None:
            files = write_pictures(report, options.pictures)
            print(f"\n{plural(len(files), 'contact sheet')} in {options.pictures}")
        if options.fix is not None:
            fixed = fix(report, options.fix, follow_links=options.follow_links)
            print(f"\ncorrected copy in {options.fix} (format {fixed.format}); its {CHANGES_FILE} lists the changes:")
            for change in fixed.changes[:_SHOWN]:
                print(f"  {change}")
            if len(fixed.changes) > _SHOWN:
                print(f"  ... and {len(fixed.changes) - _SHOWN} more")
        suspects = None if report.errors else _suspects(options, config)
        if report.errors and (options.crossval or options.model is not None):
            print("\nlabels that are probably wrong: not searched, because of the errors above; correct these first")
        if suspects is not None:
            print(f"\n{in_words(suspects)}")
            if options.pictures is not None:
                print(f"{plural(len(write_suspects(suspects, options.pictures)), 'sheet')} in {options.pictures}")
        print(f"\n{report.counts() if report.problems else 'no problems'}")
    if options.json is not None:
        content = report.to_dict()
        if suspects is not None:
            content["suspects"] = [each.to_dict(report.discovery.tree.root) for each in suspects]
        write_json(options.json, to_json(content))
    if report.errors:
        return 2
    return 1 if options.strict and report.problems else 0


def _suspects(options: argparse.Namespace, config: "Config") -> "Sequence[Suspect] | None":
    """The suspicious labels; None: nobody asked for them."""
    from frcnn.data.dataset import Dataset
    from frcnn.detector import load
    from frcnn.tools.check.suspects import suspects_of

    if options.crossval:
        return _suspects_by_crossval(options)
    if options.model is None:
        return None
    with CountProgress("judging", "image") as progress:
        return suspects_of(load(options.model), Dataset(options.data, config.data), on_image=progress)


def _suspects_by_crossval(options: argparse.Namespace) -> "Sequence[Suspect]":
    from frcnn.config import parse_overrides
    from frcnn.data.dataset import Dataset, data_of_run
    from frcnn.detector import load
    from frcnn.evaluation.suspects import find_suspects
    from frcnn.tools.check.suspects import judge
    from frcnn.training.crossval import crossval

    folds = _FOLDS if options.folds is None else options.folds
    print(f"\n{plural(folds, 'training')}; the same command resumes an interrupted one", flush=True)
    result = crossval(
        options.data,
        folds=folds,
        name=f"{options.data.resolve().name}-check",
        base_model=options.base_model,
        recipe=options.recipe,
        settings=parse_overrides(data_settings(options)),
        config=options.config,
    )
    print(f"{result}\n")  # weak detectors give unreliable suspects
    detections: list[Detections] = []
    images: list[Record] = []
    for fold in result.results:
        data = data_of_run(fold.run_dir)
        assert data is not None
        dataset = Dataset(options.data, data.model_copy(update={"force": True}))  # training has judged the data
        found, records = judge(load(fold.run_dir), dataset.test)
        detections += found
        images += records
    return find_suspects(detections, images)
