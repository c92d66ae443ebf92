"""How time and memory grow with the work, and write benchmarks/growth.md.

    python benchmarks/growth.py [--tables "Image side" Batch ...]

Every case runs in a process of its own. The default base model with random weights, 20 classes.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from compare.machine import machine
from index import write as write_index
from untrained import untrained

import frcnn
from frcnn.config import DataSettings, make_config
from frcnn.data.dataset import read_annotations
from frcnn.data.discover import discover
from frcnn.data.transforms import PaddedBatch
from frcnn.fast.optimize import optimize
from frcnn.inference.runtimes import TorchRuntime
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.seeds import generator_of
from frcnn.training.step import TrainingStep
from frcnn.types import Batch, Target

HERE = Path(__file__).parent
CLASSES = [f"class {number}" for number in range(20)]
ROUNDS, ENOUGH = 3, 5.0  # timed calls, or as many as this many seconds hold
NOISE = 1.25
"""Times the cost per unit of the cheapest smaller case: no more is taken for noise, and for caches that are full."""

Cost = dict[str, float]
"""Seconds, and peak memory in bytes beyond what is there after the imports."""


class Table(NamedTuple):
    title: str
    about: str
    whats: tuple[str, ...]
    """Names of CASES, or "opening"."""
    grows: str
    """The argument of the case that grows."""
    sizes: tuple[int, ...]
    unit: str
    units: Callable[[int], float]
    """Of work, in a case of this size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=[table.title for table in TABLES], metavar="TITLE")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(**options.case)))
        return
    sections = []
    for table in TABLES:
        if options.tables is None or table.title in options.tables:
            sections.append(section(table, [[run(what, table.grows, n) for n in table.sizes] for what in table.whats]))
            print(sections[-1], flush=True)
    (HERE / "growth.md").write_text(report(sections))


def run(what: str, grows: str, size: int) -> Cost:
    """In a process of its own."""
    case = json.dumps({"what": what, grows: size})
    found = subprocess.run([sys.executable, __file__, "--case", case], check=True, stdout=subprocess.PIPE, text=True)
    print(case, found.stdout, end="", flush=True)
    return json.loads(found.stdout)


def measure(what: str, **size: int) -> Cost:
    frcnn.tune_malloc()  # as the commands do
    imported = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        call = opening(Path(folder), **size) if what == "opening" else CASES[what](**size)
        seconds: list[float] = []
        while len(seconds) <= ROUNDS and sum(seconds[1:]) < ENOUGH:
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": statistics.median(seconds[1:]), "peak": peak - imported}  # the first one warms up


def opening(folder: Path, images: int) -> Callable[[], object]:
    """Of a data set, without its images."""
    write_index(folder, images)
    settings = DataSettings()
    return lambda: read_annotations(discover(folder, settings), settings, lambda problem: None, ("train",))


def prediction(side: int = 600, proposals: int = 300, batch: int = 1) -> Callable[[], object]:
    """From pixels to detections."""
    runtime = TorchRuntime(make_model(proposals))
    sizes = np.full((batch, 2), side, np.float32)
    frames = PaddedBatch(pixels(side, batch).numpy(), sizes, sizes)
    return lambda: runtime.detect(frames)


def training(side: int = 600, proposals: int = 2000, objects: int = 10, batch: int = 1) -> Callable[[], object]:
    """Losses and their gradients."""
    model = make_model(proposals)
    step = TrainingStep(optimize(model), make_config().train)
    step.set_modes()
    corners = torch.rand(batch, objects, 2) * (side - 100)
    boxes = torch.cat((corners, corners + 20 + 80 * torch.rand(batch, objects, 2)), dim=-1)
    labels, ignore = torch.randint(1, len(CLASSES) + 1, (objects,)), torch.zeros(objects, dtype=torch.bool)
    sizes = torch.full((batch, 2), float(side))
    targets = [Target(own, labels, ignore) for own in boxes]
    inputs = Batch(pixels(side, batch), sizes, sizes, targets, ["photo"] * batch)

    def call() -> None:
        model.zero_grad(set_to_none=True)
        loss = sum(step(inputs, [generator_of(0, number) for number in range(batch)]).values())
        assert torch.isfinite(loss)
        loss.backward()

    return call


CASES = {"prediction": prediction, "training step": training}


def make_model(proposals: int) -> FasterRCNN:
    rules = [f"detector.{use}_proposals.post_nms_top_n={proposals}" for use in ("train", "test")]
    size = torch.full((1, 2), 256.0)
    return untrained(make_config(overrides=rules), CLASSES, pixels(256, 1), size, size)


def pixels(side: int, batch: int) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)


BOTH = ("prediction", "training step")
TABLES = (
    Table(
        "Image side",
        "One square image, 300 proposals in prediction, 2,000 and 10 objects in a training step.",
        BOTH,
        "side",
        (400, 600, 800, 1200, 1600, 2000),
        "megapixel",
        lambda side: side**2 / 1e6,
    ),
    Table("Proposals", "600 x 600 pixels.", BOTH, "proposals", (100, 300, 1000, 2000), "proposal", float),
    Table("Objects", "In one image of 600 x 600 pixels.", BOTH[1:], "objects", (1, 10, 50, 100, 500), "object", float),
    Table("Batch", "Images of 600 x 600 pixels.", BOTH, "batch", (1, 2, 4, 8, 16), "image", float),
    Table(
        "Images in the set",
        "COCO annotations, one object an image, opened as training does before it looks at the images.",
        ("opening",),
        "images",
        (100, 1000, 10_000, 100_000, 1_000_000),
        "image",
        float,
    ),
)


def section(table: Table, found: Sequence[Sequence[Cost]]) -> str:
    lines = [f"## {table.title}\n\n{table.about}\n"]
    lines.append(f"| {table.grows} | what | ms | ms per {table.unit} | memory | kB per {table.unit} | verdict |")
    lines.append("| --- |" + " --- |" * 6)
    for what, costs in zip(table.whats, found, strict=True):
        units = [table.units(size) for size in table.sizes]
        times = [1000 * cost["seconds"] / unit for cost, unit in zip(costs, units, strict=True)]
        memories = [cost["peak"] / 1e3 / unit for cost, unit in zip(costs, units, strict=True)]
        for place, (size, cost) in enumerate(zip(table.sizes, costs, strict=True)):
            lines.append(
                f"| {size:,} | {what} | {1000 * cost['seconds']:,.0f} | {short(times[place])} | "
                f"{cost['peak'] / 1e6:,.0f} MB | {short(memories[place])} | "
                f"{verdict({'time': times[: place + 1], 'memory': memories[: place + 1]})} |"
            )
    return "\n".join(lines)


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(costs: dict[str, list[float]]) -> str:
    """Of costs per unit of work, of the smallest case to this one."""
    if any(len(each) == 1 for each in costs.values()):
        return ""
    faster = [f"{name} {each[-1] / min(each[:-1]):.2f} times" for name, each in costs.items()]
    faster = [text for text, each in zip(faster, costs.values(), strict=True) if each[-1] > NOISE * min(each[:-1])]
    return "FASTER than the work: " + ", ".join(faster) if faster else "no faster than the work"


def report(sections: Sequence[str]) -> str:
    grown = sum(text.count("FASTER") for text in sections)
    summary = f"{grown} cases grow faster than the work." if grown else "No case grows faster than the work."
    head = f"""# How cost grows

Time is the median of {ROUNDS} calls. Memory is the peak beyond what the imports need. Each case runs in
a process of its own. Cost grows faster than the work if a case costs more than {NOISE:g} times as much
per unit as the cheapest smaller case. Default base model (EfficientNet-Lite0), random weights,
{len(CLASSES)} classes, float32; freed memory is kept, as the commands do. `benchmarks/growth.py` writes
this file. {summary}

Machine: {machine()}."""
    return "\n\n".join([head, *sections]) + "\n"


if __name__ == "__main__":
    main()
