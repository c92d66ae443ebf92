"""`frcnn base-models`: list the base models."""

import argparse

from frcnn.cli.options import Commands, add_command, add_json
from frcnn.cli.output import write_json
from frcnn.cli.progress import CountProgress
from frcnn.json_text import to_json


def register(commands: Commands) -> None:
    about = "list the base models: size, stride, cost, and where their weights come from"
    parser = add_command(commands, "base-models", run, about, "frcnn base-models resnet50 resnet50-fpn")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    add_json(parser, "the list")


def run(options: argparse.Namespace) -> None:
    from frcnn.config import base_model_names
    from frcnn.nn.model_info import base_model_info

    names = options.names or base_model_names()
    facts = []
    with CountProgress("reading", "base model") as progress:
        for name in names:
            facts.append(base_model_info(name))
            progress(len(facts), len(names))
    if options.json is not None:
        write_json(options.json, to_json([fact._asdict() for fact in facts]))
        return
    width = max(len(fact.name) for fact in facts)
    print(f"{'name':<{width}}  parameters  {'stride':<14}  GFLOP  weights")
    for fact in facts:
        strides = " ".join(map(str, fact.strides))
        where = "available" if fact.available else "missing"
        print(
            f"{fact.name:<{width}}  {fact.parameters / 1e6:>8.1f} M  {strides:<14}  {fact.gflop:>5.0f}  {where:>9}, "
            f"{fact.weights}"
        )
    print("(parameters of the detector for 20 classes; GFLOP of its layers for one image of 850 x 850 pixels)")
