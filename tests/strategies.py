"""What the property tests draw from: boxes, scores, image sizes, data sets."""

import os
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import HealthCheck, settings
from tiny import detections_of
from torch import Tensor

from frcnn.data.records import Record
from frcnn.inference.results import Detections

# How fast the machine is just now is not what these tests are about. The same code gets the same examples;
# FRCNN_EXAMPLES (test_damage.py) asks for others.
settings.register_profile(
    "frcnn",
    deadline=None,
    derandomize="FRCNN_EXAMPLES" not in os.environ,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("frcnn")

CLASSES = ("cat", "dog")


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """float32 numbers, which a test can put into tensors as they are."""
    return st.floats(low, high, width=32)


@st.composite
def boxes(
    draw: st.DrawFn,
    *,
    min_count: int = 0,
    max_count: int = 6,
    low: float = -200.0,
    high: float = 1000.0,
    min_side: float = 0.0,
    max_side: float = 500.0,
) -> Tensor:
    """(N, 4) float32, xyxy, anywhere: they may reach out of an image."""
    corner, side = numbers(low, high), numbers(min_side, max_side)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=min_count, max_size=max_count))
    corners, sides = torch.tensor(rows).reshape(-1, 4).split(2, dim=1)
    return torch.cat((corners, corners + sides), dim=1)


@st.composite
def crowded_boxes(draw: st.DrawFn, *, min_count: int = 0, max_count: int = 12, min_side: int = 0) -> Tensor:
    """(N, 4) whole pixels on a small square, so that overlaps, ties and equal boxes are frequent."""
    corner, side = st.integers(0, 6), st.integers(min_side, 5)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=min_count, max_size=max_count))
    corners, sides = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4).split(2, dim=1)
    return torch.cat((corners, corners + sides), dim=1)


@st.composite
def scored_boxes(draw: st.DrawFn, *, max_count: int = 12) -> tuple[Tensor, Tensor]:
    """(N, 4) crowded boxes and (N,) scores with ties, some of them -inf."""
    found = draw(crowded_boxes(max_count=max_count))
    score = st.sampled_from((-float("inf"), -1.0, 0.0, 0.25, 0.5, 0.75, 1.0))
    scores = draw(st.lists(score, min_size=len(found), max_size=len(found)))
    return found, torch.tensor(scores)


@st.composite
def image_sizes(draw: st.DrawFn, *, count: int) -> Tensor:
    """(B, 2) float32, (height, width)."""
    side = st.integers(1, 2000)
    rows = draw(st.lists(st.tuples(side, side), min_size=count, max_size=count))
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 2)


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[list[Detections], list[Record]]:
    """Detections and objects of up to three images, of CLASSES; most detections are near an object, many wrong."""
    predictions, records = [], []
    for number in range(draw(st.integers(0, 3))):
        objects = draw(crowded_boxes(max_count=3, min_side=3)).numpy()
        names = draw(st.tuples(*[st.sampled_from(CLASSES)] * len(objects)))
        ignore = np.array(draw(st.tuples(*[st.sampled_from((False, False, True))] * len(objects))), bool)
        records.append(Record(Path(f"{number}.jpg"), objects, names, ignore))

        anywhere = st.tuples(st.just(np.array([0, 0, 4, 4], np.float32)), st.sampled_from(CLASSES))
        candidates = [st.just((box, name)) for box, name in zip(objects, names, strict=True)]
        found = draw(st.lists(st.tuples(st.one_of(anywhere, *candidates), st.integers(0, 2)), min_size=2, max_size=8))
        scores = draw(st.lists(st.integers(0, 4), min_size=len(found), max_size=len(found)))
        falling = [score / 4 for score in sorted(scores, reverse=True)]
        boxes = [box + np.array((shift, 0, shift, 0)) for (box, _), shift in found]
        rows = [(name, score, box) for ((_, name), _), score, box in zip(found, falling, boxes, strict=True)]
        predictions.append(detections_of(*rows, path=f"{number}.jpg"))
    return predictions, records
