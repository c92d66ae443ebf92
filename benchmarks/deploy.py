"""How fast the runtimes run exported files on a processor, in one run, and write benchmarks/deploy.md.

    python benchmarks/deploy.py DATA [--rounds 15]

DATA is the Grocery set. Base models that are not trained (their layers have the same work to do), photos of 1066 x 800
pixels, one at a time; every round runs all files once, one after the other, with a pause in which threads fall asleep.
Of torchvision's own model, the file that PyTorch makes of it is run too.
"""

import argparse
import copy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import frcnn  # isort: skip  # before the runtimes: it stops their telemetry
import onnxruntime
import openvino
import torch
from compare.machine import machine
from compare.pairs import make_pair
from torchvision.models import detection
from untrained import untrained

from frcnn.config import make_config
from frcnn.data.dataset import open_dataset
from frcnn.data.images import images_among, read_image
from frcnn.data.transforms import prepare_images
from frcnn.export.export import export
from frcnn.export.openvino import write_openvino
from frcnn.export.quiet import quiet
from frcnn.inference.runtimes import Exported, TorchRuntime
from frcnn.nn.faster_rcnn import FasterRCNN

HERE = Path(__file__).parent
MODELS = ("alexnet", "efficientnet_lite0", "resnet50-fpn", "fasterrcnn_resnet50_fpn")
SIZE = ("shorter_side=800", "longer_side=1333")
PIXELS = (800, 1066)
NAMES = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}
PAUSE = 0.3  # seconds


def main() -> None:
    frcnn.tune_malloc()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    sections = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            sections.append(table(name, measure(name, few(options.data, Path(folder)), options.rounds)))
            print(sections[-1], flush=True)
    (HERE / "deploy.md").write_text(report(sections, options.rounds))


def few(data: Path, folder: Path) -> Path:
    """A folder with two photos, so that the proof of each file does not take long."""
    for part, count in (("testImages", 1), ("positive", 1)):
        (folder / part).mkdir()
        for photo in images_among((data / part).iterdir())[:count]:
            for file in (data / part).glob(f"{photo.stem}.*"):
                shutil.copy(file, folder / part)
    return folder


@torch.no_grad()
def measure(name: str, data: Path, rounds: int) -> dict[str, tuple[list[float], int]]:
    """Seconds of each round, and bytes of the file, of every way to run a base model."""
    photo = images_among((data / "testImages").iterdir())[0]
    overrides = () if name in detection.__dict__ else [f"detector.image.{rule}" for rule in SIZE]  # torchvision's own
    config = make_config(base_model=name, overrides=overrides)
    frames = prepare_images([read_image(photo)], config.detector.resizing)
    inputs = (torch.from_numpy(array) for array in frames)
    model = untrained(config, open_dataset(data, config.data).classes, *inputs)
    ways = ways_of_torchvision(name, data) if name in detection.__dict__ else {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        lowered = copy.deepcopy(model).set_precision(dtype)
        ways[f"PyTorch, {precision}"] = (partial(TorchRuntime(lowered).detect, frames), 0)
    for file in files_of(model, data):
        model = Exported(file)
        weights = file.with_suffix(".bin") if file.suffix == ".xml" else file
        way = f"{NAMES[file.suffix]}, {model.description.precision}"
        ways[way] = (partial(model.detect, frames), weights.stat().st_size)

    seconds: dict[str, tuple[list[float], int]] = {way: ([], size) for way, (_, size) in ways.items()}
    for number in range(rounds + 2):
        for way, (detect, _) in ways.items():
            taken = timed(detect)
            if number >= 2:  # the first ones warm up
                seconds[way][0].append(taken)
            time.sleep(PAUSE)
    return seconds


def ways_of_torchvision(name: str, folder: Path) -> dict[str, tuple[Callable[[], object], int]]:
    """torchvision's model as it is, and in the file that PyTorch's older exporter makes of it (the newer one does
    not take it)."""
    pair = make_pair(name, PIXELS)
    theirs, image = pair.theirs.eval(), pair.their_input()
    file = folder / "torchvision.onnx"
    with quiet():
        torch.onnx.export(theirs, ([image],), file, dynamo=False, opset_version=18, input_names=["image"])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    compiled = openvino.compile_model(file, "CPU")
    array, size = image.numpy(), file.stat().st_size
    return {
        "torchvision, PyTorch, fp32": (partial(theirs, [image]), 0),
        "torchvision, ONNX Runtime, fp32": (partial(session.run, None, {"image": array}), size),
        "torchvision, OpenVINO, fp32": (partial(compiled, {"image": array}), size),
    }


def files_of(model: FasterRCNN, data: Path) -> list[Path]:
    """In each format and precision; OpenVINO's are converted from ONNX, as `export` does it."""
    told = {"data": data, "max_ap_loss": 1.0}  # untrained, it has no AP to lose
    onnx = export(model, "onnx", data / "fp32.onnx", data=data).files[0]
    quantized = export(model, "onnx", data / "int8.onnx", precision="int8", calibrate=data / "positive", **told)
    bf16 = export(model, "openvino", data / "bf16.xml", precision="bf16", **told)
    files = [onnx, quantized.files[0]]
    for file in files:
        write_openvino(file, file.with_suffix(".xml"), halves=False)
    return [*files, onnx.with_suffix(".xml"), bf16.files[0], quantized.files[0].with_suffix(".xml")]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table(name: str, measured: dict[str, tuple[list[float], int]]) -> str:
    base = statistics.median(measured["PyTorch, fp32"][0])
    rows = [f"## {name}\n", "| how | ms per image, median | fastest | slowest | times PyTorch fp32 | file |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for way, (seconds, size) in measured.items():
        median = statistics.median(seconds)
        file = f"{size / 1e6:.0f} MB" if size else ""
        fastest, slowest = 1000 * min(seconds), 1000 * max(seconds)
        rows.append(f"| {way} | {1000 * median:.0f} | {fastest:.0f} | {slowest:.0f} | {base / median:.1f} | {file} |")
    return "\n".join(rows)


def report(sections: list[str], rounds: int) -> str:
    versions = ", ".join(f"{package} {version(package)}" for package in ("onnxruntime", "openvino"))
    return (
        f"""# Exported files on a CPU

One image at a time, 1066 x 800 pixels (width x height), from the resized image to detections (300
proposals, NMS included). Times are medians of {rounds} rounds; each round runs every file once. The
models are not trained. On a CPU without native bfloat16, OpenVINO runs a `bf16` file in float32. On a
CPU with it, OpenVINO runs torchvision's file in bfloat16, which is its default. `benchmarks/deploy.py`
writes this file.

Machine: {machine()}, {versions}.

"""
        + "\n\n".join(sections)
        + "\n"
    )


if __name__ == "__main__":
    main()
