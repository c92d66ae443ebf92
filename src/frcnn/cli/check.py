"""`frcnn check`: report errors and warnings about a data set."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command, add_data_settings, add_json, add_settings, data_settings
from frcnn.cli.output import text_beside_json, write_json
from frcnn.cli.progress import CountProgress
from frcnn.messages import plural

_SHOWN = 20  # changes


def register(commands: Commands) -> None:
    about = "find errors and warnings in images, boxes, classes, splits and anchors"
    parser = add_command(commands, "check", run, about, "frcnn check my_photos --pictures sheets")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    add_settings(parser)
    add_data_settings(parser, strict=False)
    add_json(parser, "the whole report")
    parser.add_argument("--strict", action="store_true", help="also exit with status 1 for warnings and repairs")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw contact sheets: a sample, and each problem")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a corrected copy, and a list of the changes")


def run(options: argparse.Namespace) -> int:
    from frcnn.config import make_config
    from frcnn.tools.check.check import check_dataset
    from frcnn.tools.check.fix import CHANGES_FILE, fix
    from frcnn.tools.check.pictures import write_pictures

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
            fixed = fix(report, options.fix)
            print(f"\ncorrected copy in {options.fix} (format {fixed.format}); its {CHANGES_FILE} lists the changes:")
            for change in fixed.changes[:_SHOWN]:
                print(f"  {change}")
            if len(fixed.changes) > _SHOWN:
                print(f"  ... and {len(fixed.changes) - _SHOWN} more")
        print(f"\n{report.counts() if report.problems else 'no problems'}")
    if options.json is not None:
        write_json(options.json, report.to_json())
    if report.errors:
        return 2
    return 1 if options.strict and report.problems else 0
