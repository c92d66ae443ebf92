"""A tiny data set of colored rectangles, detectors that answer in milliseconds, and one run directory for all tests."""

import atexit
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from frcnn.config import Config, DataSettings, make_config, parse_overrides
from frcnn.data.dataset import open_dataset
from frcnn.data.records import Records
from frcnn.inference.results import Detections
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.training.callbacks import Callback
from frcnn.training.reports import StepReport
from frcnn.training.state import TrainingState
from frcnn.training.train import TrainResult, train
from frcnn.types import Batch, Target

Box = tuple[float, float, float, float]

CLASSES = ("blue", "red")
COLORS = {"blue": (30, 60, 220), "red": (220, 40, 30)}
SIZE = (96, 128)  # (height, width)

SETTINGS = (
    "base_model.fc_channels=[16]",
    "base_model.rpn_channels=16",
    "detector.image.shorter_side=96",
    "detector.image.longer_side=128",
    "detector.anchors.scales=[1, 2, 4]",
    "detector.train_proposals.pre_nms_top_n=200",
    "detector.train_proposals.post_nms_top_n=40",
    "detector.test_proposals.pre_nms_top_n=200",
    "detector.test_proposals.post_nms_top_n=20",
    "detector.results.max_detections=10",
    "train.precision=fp32",
    "train.epochs=2",
    "train.warmup_steps=0",
)


# ----------------------------------------------------------------------------------------------------------- data set


def draw_image(objects: Sequence[tuple[str, Box]], *, seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Filled rectangles on dark noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for name, (x1, y1, x2, y2) in objects:
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=COLORS[name])
    return image


def write_annotated(image: Path, objects: Sequence[tuple[str, Box]], *, seed: int = 0) -> None:
    """An image with the two files that the tutorial's folders have beside it."""
    image.parent.mkdir(parents=True, exist_ok=True)
    draw_image(objects, seed=seed).save(image)
    boxes = ["\t".join(f"{value:g}" for value in box) for _, box in objects]
    image.with_name(f"{image.stem}.bboxes.tsv").write_text("\n".join(boxes) + "\n")
    image.with_name(f"{image.stem}.bboxes.labels.tsv").write_text("\n".join(name for name, _ in objects) + "\n")


def read_split(folder: Path, split: str, settings: DataSettings) -> Records:
    """The verified images of one split."""
    return open_dataset(folder, settings, (split,)).records(split)


def write_tiny(folder: Path) -> Path:
    """Four training and two test images, each with one object of both classes, and one image without objects."""
    for number in range(6):
        part = "positive" if number < 4 else "testImages"
        x, y = 6 + 4 * number, 8 + 6 * number
        objects = [("red", (x, y, x + 40, y + 44)), ("blue", (x + 48, 50 - y / 2, x + 88, 82 - y / 2))]
        write_annotated(folder / part / f"{number}.png", objects, seed=number)
    (folder / "negative").mkdir()
    draw_image([], seed=6).save(folder / "negative" / "6.png")
    return folder


# ---------------------------------------------------------------------------------------------------------- detectors


def tiny_config(*overrides: str) -> Config:
    return make_config(overrides=tiny_settings(*overrides))


def tiny_settings(*overrides: str) -> dict[str, Any]:
    """SETTINGS and more; the alternating scheme has epochs of its own."""
    settings = parse_overrides([*SETTINGS, *overrides])
    if settings.get("train.scheme") == "alternating":
        del settings["train.epochs"]
    return settings


def tiny_model(*overrides: str, seed: int = 0, classes: Sequence[str] = CLASSES) -> FasterRCNN:
    """A model with random weights; its new layers say more than those of a real start, so that outputs differ."""
    torch.manual_seed(seed)
    model = build_model(tiny_config(*overrides).model, classes)
    with torch.no_grad():
        for layer in (model.rpn.objectness, model.rpn.deltas, model.roi_head.logits, model.roi_head.deltas):
            layer.weight.normal_(std=0.2)
    return model


def random_inputs(*sizes: tuple[int, int], frame: tuple[int, int] = SIZE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of these sizes, each in the upper left corner of a frame, and the sizes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(len(sizes), 3, *frame, dtype=torch.uint8)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return images, torch.tensor(sizes, dtype=torch.float32)


def detections_of(*found: tuple[str, float, Sequence[float]], path: str = "photo.jpg") -> Detections:
    """Detections as (class, confidence, box)."""
    classes = sorted({name for name, _, _ in found})
    return Detections(
        np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in found], np.float32),
        np.array([classes.index(name) for name, _, _ in found], np.int64),
        tuple(classes),
        path,
    )


Found = tuple[Tensor, Tensor, Tensor]
"""Boxes (D, 4), scores (D,) and labels (D,) of one image."""


def same_detections(found: Found, expected: Found, *, pixels: float = 1e-2, score: float = 1e-4) -> Tensor:
    """(E, D) bool, which are the same up to rounding. Scores that are equal but for rounding may change places."""
    (boxes, scores, labels), (expected_boxes, expected_scores, expected_labels) = found, expected
    return (
        ((boxes - expected_boxes[:, None]).abs().amax(dim=2) < pixels)
        & ((scores - expected_scores[:, None]).abs() < score)
        & (labels == expected_labels[:, None])
    )


def tiny_batch(*targets: Target, seed: int = 0) -> Batch:
    """Noise with these targets."""
    images, sizes = random_inputs(*[SIZE] * len(targets), seed=seed)
    return Batch(images, sizes, sizes, list(targets), [f"{number}.png" for number in range(len(targets))])


def target(*objects: tuple[int, Box], ignore: Sequence[bool] | None = None) -> Target:
    """Objects as (label, box)."""
    return Target(
        torch.tensor([box for _, box in objects], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([label for label, _ in objects], dtype=torch.int64),
        torch.tensor(ignore if ignore is not None else [False] * len(objects), dtype=torch.bool),
    )


# ----------------------------------------------------------------------------------------------------------- training


class OnStep(Callback):
    """Calls a function with every step's report."""

    def __init__(self, call: Callable[[StepReport], object]) -> None:
        self.call = call

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self.call(report)


def train_tiny(
    data: Path,
    out: Path | None,
    *settings: str,
    on_step: Callable[[StepReport], object] = lambda report: None,
    callbacks: Sequence[Callback] = (),
    weights: str | Path = "none",
    plan: bool = False,
    **arguments: Any,
) -> TrainResult:
    return train(
        data,
        out=out,
        weights=weights,
        settings=tiny_settings(*settings),
        plan=plan,
        offline=True,
        callbacks=[OnStep(on_step), *callbacks],
        **arguments,
    )


@cache
def trained_run() -> Path:
    """A run directory on the tiny data set, trained once for all tests; copy it before writing into it."""
    folder = Path(mkdtemp(prefix="frcnn-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return train_tiny(write_tiny(folder / "data"), folder / "run").run_dir


@contextmanager
def no_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Opening a connection fails the test."""

    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    with monkeypatch.context() as patch:
        patch.setattr("socket.socket.connect", refuse)
        patch.setattr("socket.getaddrinfo", refuse)
        yield
