"""`frcnn layers`: list the layers of a classifier, to choose those of a base model."""

import argparse
from collections import defaultdict

from frcnn.cli.options import Commands, add_command, add_json, image_size
from frcnn.cli.output import write_json
from frcnn.json_text import to_json

_ROLES = ("input_node", "last_conv_node", "freeze_before", "pool_node", "last_hidden_node")
"""Settings of a base model that name layers."""


def register(commands: Commands) -> None:
    about = "list the layers of a classifier, to choose those of a base model"
    parser = add_command(commands, "layers", run, about, "frcnn layers torchvision:resnet50")
    parser.add_argument("name", metavar="NAME", help="a base model, its YAML file, torchvision:NAME or timm:NAME")
    parser.add_argument(
        "--image-size", type=image_size, default=(224, 224), metavar="HxW", help="pixels (default: 224x224)"
    )
    add_json(parser, "the list")


def run(options: argparse.Namespace) -> None:
    from frcnn.config import make_config
    from frcnn.nn.model_info import list_layers

    name: str = options.name
    base_model = None if name.startswith(("torchvision:", "timm:")) else make_config(base_model=name).base_model
    layers = list_layers(name if base_model is None else base_model.architecture, options.image_size)
    if options.json is not None:
        write_json(options.json, to_json([layer._asdict() for layer in layers]))
        return
    roles: dict[str, list[str]] = defaultdict(list)
    for setting in _ROLES:
        given = getattr(base_model, setting, None)
        for layer_name in [given] if isinstance(given, str) else given or ():
            roles[layer_name].append(setting)
    width = max(len(layer.name) for layer in layers)
    print(f"{'layer':<{width}}  {'output':>17}  stride  parameters")
    for layer in layers:
        shape = " x ".join(map(str, layer.shape))
        notes = (["(block)"] if layer.block else []) + [f"<- {role}" for role in roles[layer.name]]
        stride = layer.stride if layer.stride is not None else "-"
        print(f"{layer.name:<{width}}  {shape:>17}  {stride:>6}  {layer.parameters:>10,}  {' '.join(notes)}".rstrip())
    height, width = options.image_size
    print(
        f"(for an image of {width} x {height} pixels; the name of a block means its last layer, "
        "in freeze_before its first)"
    )
