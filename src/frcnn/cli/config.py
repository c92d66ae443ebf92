"""`frcnn config`: print all settings."""

import argparse

from frcnn.cli.options import Commands, add_command, add_settings


def register(commands: Commands) -> None:
    about = "print all settings, merged, with a comment for each"
    parser = add_command(commands, "config", run, about, "frcnn config --base-model vgg16 --set train.epochs=5")
    add_settings(parser)


def run(options: argparse.Namespace) -> None:
    from frcnn.config import dump_yaml, make_config

    merged = make_config(
        base_model=options.base_model, recipe=options.recipe, file=options.config, overrides=options.set
    )
    print(dump_yaml(merged), end="")
