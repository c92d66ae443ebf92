"""`frcnn bench`: seconds per image on this machine, to choose a base model, a precision and a runtime."""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frcnn.cli.options import Commands, add_command, add_json, image_size
from frcnn.cli.output import text_beside_json, write_json
from frcnn.json_text import to_json
from frcnn.messages import plural

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from frcnn.inference.runtimes import Runtime

_BASE_MODELS = ("efficientnet_lite0", "alexnet", "resnet50-fpn")
_CLASSES = [f"class {number}" for number in range(1, 21)]  # as many as Pascal VOC has
_RUNTIMES = (
    ("ONNX Runtime", ".onnx", ("onnx", "onnxscript", "onnxruntime")),
    ("OpenVINO", ".xml", ("onnx", "onnxscript", "openvino")),
)
"""(name, suffix of its files, packages that write and run them)."""


class Row(NamedTuple):
    """One line of the table."""

    base_model: str
    runtime: str
    precision: str
    seconds: float
    """Per image, from decoded pixels to detections; the median of the rounds."""


def register(commands: Commands) -> None:
    about = "measure seconds per image on this machine: base models, precisions and runtimes"
    parser = add_command(commands, "bench", run, about, "frcnn bench --base-model efficientnet_lite0 resnet50-fpn")
    parser.add_argument(
        "--base-model",
        nargs="+",
        default=_BASE_MODELS,
        metavar="NAME",
        help=f"names that `frcnn base-models` lists (default: {' '.join(_BASE_MODELS)})",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where PyTorch runs (default: auto)"
    )
    parser.add_argument(
        "--image-size",
        type=image_size,
        default=(1200, 1600),
        metavar="HxW",
        help="height x width of the image, pixels (default: 1200x1600)",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="images per measurement (default: 5)")
    add_json(parser, "the table")


def run(options: argparse.Namespace) -> None:
    import numpy as np
    import torch
    from PIL import Image

    if options.rounds < 1:
        raise ValueError(f"--rounds {options.rounds}: must be 1 or more")
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    photo = Image.fromarray(noise).resize(options.image_size[::-1], Image.Resampling.BICUBIC)
    width = max(len(name) for name in options.base_model)
    rows = []
    with text_beside_json(options.json):
        print(f"{'base model':<{width}}  {'runtime':<17}  precision  seconds per image")
        for name in options.base_model:
            for runtime, precision, model in _models(name, options.device):
                rows.append(Row(name, runtime, precision, _seconds(model, photo, options.rounds)))
                print(f"{name:<{width}}  {runtime:<17}  {precision:<9}  {rows[-1].seconds:.3f}", flush=True)
        size = "{} x {} pixels".format(*options.image_size[::-1])
        print(
            f"(random weights; an image of {size}, resized as in training; {plural(torch.get_num_threads(), 'thread')})"
        )
    if options.json is not None:
        write_json(options.json, to_json([row._asdict() for row in rows]))


def _models(base_model: str, device: str) -> Iterator[tuple[str, str, "Runtime"]]:
    """(runtime, precision, model) of each way to run a base model on this machine."""
    import torch

    from frcnn.config import make_config
    from frcnn.inference.runtimes import Exported, TorchRuntime
    from frcnn.nn.build import build_model
    from frcnn.nn.device import choose_device, choose_precision

    torch.manual_seed(0)
    model = build_model(make_config(base_model=base_model).model, _CLASSES)
    target = choose_device(device)
    for precision in _precisions(target):
        model.set_precision(choose_precision(precision, target))
        yield f"PyTorch, {target.type}", precision, TorchRuntime(model.to(target))
    model.to("cpu").set_precision(torch.float32)
    for runtime, suffix, packages in _RUNTIMES:
        if not all(find_spec(package) for package in packages):
            continue
        from frcnn.export.export import write_unverified

        for precision in _precisions(torch.device("cpu")) if suffix == ".xml" else ("fp32",):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"model{suffix}"
                write_unverified(model, file, precision)
                yield f"{runtime}, cpu", precision, Exported(file)


def _precisions(device: "torch.device") -> tuple[str, ...]:
    """bf16 only where the hardware computes it: elsewhere it is slower than fp32."""
    import torch

    from frcnn.nn.device import choose_precision

    return ("fp32", "bf16") if choose_precision("auto", device) == torch.bfloat16 else ("fp32",)


def _seconds(model: "Runtime", photo: "Image.Image", rounds: int) -> float:
    """Per image, the median; the first two calls warm up."""
    from frcnn.data.transforms import prepare_images

    seconds = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        model.detect(prepare_images([photo], model.resizing))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])
