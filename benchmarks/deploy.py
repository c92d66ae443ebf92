"""How fast the runtimes run exported files on a processor, in one run, and write benchmarks/deploy.md.

    python benchmarks/deploy.py DATA [--rounds 15]

DATA is the Grocery set. Base models that are not trained (their layers have the same work to do), photos of 800 x 1066
pixels, one at a time; every round runs all files once, one after the other, with a pause in which threads fall asleep.
Of torchvision's own detector, the file that PyTorch makes of it is run too.
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

import onnxruntime
import openvino
import torch
from torchvision.models import detection
from untrained import untrained

import frcnn
from frcnn.bench.machine import machine
from frcnn.bench.pairs import make_pair
from frcnn.config import merge
from frcnn.data.dataset import open_dataset
from frcnn.data.images import images_among, read_image
from frcnn.data.transforms import frames_of
from frcnn.deploy.export import export
from frcnn.deploy.openvino import write_openvino
from frcnn.deploy.quiet import quiet
from frcnn.detectors import Exported
from frcnn.nn.detector import FasterRCNN

HERE = Path(__file__).parent
MODELS = ("alexnet", "efficientnet_lite0", "resnet50-fpn", "fasterrcnn_resnet50_fpn")
SIZE = ("resize=shorter_side", "shorter_side=800", "longer_side=1333", "divisor=1")
PIXELS = (800, 1066)
NAMES = {".onnx": "ONNX Runtime", ".xml": "OpenVINO"}
PAUSE = 0.3  # seconds


def main() -> None:
    frcnn.keep_memory()  # as the commands do
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
    config = merge(base_model=name, overrides=overrides)
    frames = frames_of([read_image(photo)], config.detector.image)
    inputs = (torch.from_numpy(array) for array in frames)
    detector = untrained(config, open_dataset(data, config.data).classes, *inputs)
    ways = ways_of_torchvision(name, data) if name in detection.__dict__ else {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        lowered = copy.deepcopy(detector).set_precision(dtype)
        ways[f"PyTorch, {precision}"] = (partial(lowered.detect, frames, ["photo"]), 0)
    for file in files_of(detector, data):
        model = Exported(file)
        weights = file.with_suffix(".bin") if file.suffix == ".xml" else file
        way = f"{NAMES[file.suffix]}, {model.description.precision}"
        ways[way] = (partial(model.detect, frames, ["photo"]), weights.stat().st_size)

    seconds: dict[str, tuple[list[float], int]] = {way: ([], size) for way, (_, size) in ways.items()}
    for number in range(rounds + 2):
        for way, (detect, _) in ways.items():
            taken = timed(detect)
            if number >= 2:  # the first ones warm up
                seconds[way][0].append(taken)
            time.sleep(PAUSE)
    return seconds


def ways_of_torchvision(name: str, folder: Path) -> dict[str, tuple[Callable[[], object], int]]:
    """torchvision's detector as it is, and in the file that PyTorch's older exporter makes of it (the newer one does
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


def files_of(detector: FasterRCNN, data: Path) -> list[Path]:
    """In each format and precision; OpenVINO's are converted from ONNX, as `export` does it."""
    told = {"data": data, "max_ap_loss": 1.0}  # untrained, it has no AP to lose
    onnx = export(detector, "onnx", data / "fp32.onnx", data=data).files[0]
    quantised = export(detector, "onnx", data / "int8.onnx", precision="int8", calibrate=data / "positive", **told)
    bf16 = export(detector, "openvino", data / "bf16.xml", precision="bf16", **told)
    files = [onnx, quantised.files[0]]
    for file in files:
        write_openvino(file, file.with_suffix(".xml"), halves=False)
    return [*files, onnx.with_suffix(".xml"), bf16.files[0], quantised.files[0].with_suffix(".xml")]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table(name: str, measured: dict[str, tuple[list[float], int]]) -> str:
    base = statistics.median(measured["PyTorch, fp32"][0])
    rows = [f"## {name}\n", "| how | ms a photo, median | fastest | slowest | times PyTorch fp32 | file |"]
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
        f"""# Exported files on a processor

One photo at a time, 800 x 1066 pixels, from pixels to detections (300 proposals, NMS included); medians of {rounds}
rounds, in each of which every file is run once. The models are not trained. On a processor without native bfloat16,
OpenVINO runs a `bf16` file in float32; on one with it, torchvision's file in bfloat16, as nothing tells it otherwise.
Made by `benchmarks/deploy.py`.

Machine: {machine()}, {versions}.

"""
        + "\n\n".join(sections)
        + "\n"
    )


if __name__ == "__main__":
    main()
