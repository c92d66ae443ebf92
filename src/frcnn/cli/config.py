"""`frcnn config`: print all settings."""

import argparse
import sys
from pathlib import Path

from frcnn.cli.options import Commands, add_command, add_settings
from frcnn.messages import one_line


def register(commands: Commands) -> None:
    about = "print all settings, merged, with a comment for each"
    parser = add_command(commands, "config", run, about, "frcnn config --base-model vgg16 --set train.epochs=5")
    add_settings(parser)
    parser.add_argument(
        "--from-cntk",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="config files of CNTK's tutorial, e.g. FasterRCNN_config.py AlexNet_config.py Grocery_config.py; of a "
        "parameter in several files, the last one counts; all others are those of the recipe tutorial",
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.config import dump_yaml, make_config, parse_overrides

    recipe, settings = options.recipe, parse_overrides(options.set)
    if options.from_cntk:
        from frcnn.config.cntk_files import read_config_files

        files = read_config_files(options.from_cntk)
        recipe, settings = recipe or "tutorial", files.settings | settings
        for line in files.unused:
            print(f"not used: {one_line(line)}", file=sys.stderr)
    merged = make_config(base_model=options.base_model, recipe=recipe, file=options.config, overrides=settings)
    print(dump_yaml(merged), end="")
