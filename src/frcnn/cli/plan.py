"""`frcnn plan`: choose settings that fit the data, and say why."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command, add_data_settings, add_json, add_settings, data_settings
from frcnn.cli.output import text_beside_json, write_json


def register(commands: Commands) -> None:
    about = "choose settings that fit the training images, and say why"
    parser = add_command(commands, "plan", run, about, "frcnn plan my_photos --out plan.yaml")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    add_settings(parser, recipe=False)
    add_data_settings(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the plan as YAML; frcnn train DATA --config FILE uses it"
    )
    add_json(parser, "the figures of the data and the chosen settings")


def run(options: argparse.Namespace) -> None:
    from frcnn.config import parse_overrides
    from frcnn.files import write_text
    from frcnn.planning.plan import plan

    result = plan(
        options.data,
        base_model=options.base_model,
        config=options.config,
        settings=parse_overrides(data_settings(options)),
    )
    with text_beside_json(options.json):
        print(result)
        if options.out is None:
            print("`frcnn train` with the same options uses these settings")
            print("to change a setting: --set SETTING=VALUE; to edit the plan: --out plan.yaml")
        else:
            write_text(options.out, result.to_yaml())
            print(f"{options.out}: the plan; frcnn train {options.data} --config {options.out} uses it")
    if options.json is not None:
        write_json(options.json, result.to_json())
