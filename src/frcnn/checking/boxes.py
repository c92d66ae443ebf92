"""What is odd about boxes: each by itself, those of an image together, and those of the whole set."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from frcnn.config import ImageSettings
from frcnn.data.problems import Problem, object_place
from frcnn.data.transforms import input_size
from frcnn.ops.boxes import iou
from frcnn.types import Record

TINY = 8.0
"""Input pixels: half a cell of a feature map of stride 16."""
HUGE = 0.95
EXTREME = 8.0
SAME = 0.9
INSIDE = 0.98
_ENOUGH = 5  # boxes at a border, before they say something


def odd_boxes(record: Record, size: tuple[int, int], settings: ImageSettings) -> Iterator[Problem]:
    """Warnings for the boxes of one image.

    Args:
        size: of the image, (height, width).
        settings: how it is resized for training.
    """
    boxes = record.boxes
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    scale = input_size(size, settings)[0] / size[0]
    for number in np.flatnonzero(good):
        x1, y1, x2, y2 = boxes[number].tolist()
        width, height = x2 - x1, y2 - y1

        def warning(kind: str, rule: str, number: int = int(number)) -> Problem:
            place = object_place(number, record.names[number])
            return Problem(kind, record.image, rule, place, number, level="warning")

        if min(width, height) * scale < TINY:
            small = f"{width * scale:.1f} x {height * scale:.1f}"
            yield warning("tiny box", f"is {small} pixels at the training size, less than {TINY:g}; is it an object?")
        if width * height > HUGE * size[0] * size[1]:
            yield warning("huge box", f"covers {width * height / (size[0] * size[1]):.0%} of the image; is it a box?")
        if max(width / height, height / width) > EXTREME:
            yield warning("extreme shape", f"is {width:g} x {height:g} pixels, more than {EXTREME:g} to 1")
    yield from _pairs(record, np.flatnonzero(good & ~record.difficult))


def _pairs(record: Record, chosen: np.ndarray) -> Iterator[Problem]:
    boxes = torch.from_numpy(record.boxes[chosen])
    overlaps = iou(boxes, boxes).numpy()
    areas = (record.boxes[chosen, 2:] - record.boxes[chosen, :2]).prod(axis=1)
    common = overlaps * (areas[:, None] + areas) / (1 + overlaps)  # the area of what two have in common
    is_inside = common >= INSIDE * np.minimum(areas[:, None], areas)
    for first, second in zip(*np.nonzero(np.triu((overlaps >= SAME) | is_inside, 1)), strict=True):
        one, other = int(chosen[first]), int(chosen[second])
        place, names = object_place(other, record.names[other]), (record.names[one], record.names[other])
        before = object_place(one, names[0])
        if overlaps[first, second] >= SAME:
            kind = "box drawn twice" if names[0] == names[1] else "two classes for one box"
            rule = f"is nearly {before} again (IoU {overlaps[first, second]:.2f}); remove one"
            yield Problem(kind, record.image, rule, place, other, level="warning")
        elif names[0] == names[1]:
            inner, outer = (one, other) if areas[first] < areas[second] else (other, one)
            rule = f"lies inside {object_place(outer, names[0])}; a part of it, or an object of its own?"
            yield Problem(
                "box inside another", record.image, rule, object_place(inner, names[0]), inner, level="warning"
            )


def off_by_one(records: Sequence[Record], sizes: Sequence[tuple[int, int] | None]) -> str | None:
    """Whole numbers that never touch 0, or never the image's far side, but often come within one pixel: a sign that
    pixels were counted from 1, or that the last pixel was left out."""
    low, high = [], []
    for record, size in zip(records, sizes, strict=True):
        if size is not None and len(record.boxes):
            low.append(record.boxes[:, :2])
            high.append(np.array(size[::-1]) - record.boxes[:, 2:])
    if not low:
        return None
    starts, ends = np.concatenate(low), np.concatenate(high)
    if (starts != starts.round()).any() or (ends != ends.round()).any():
        return None

    def nearly(distances: np.ndarray, step: int) -> bool:
        return int((distances == step).any(axis=1).sum()) >= _ENOUGH and not (distances == 0).any()

    if (starts == -1).any(axis=1).sum() >= _ENOUGH:
        return "boxes begin at -1: their numbers count pixels from 0 where the format counts from 1"
    if nearly(starts, 1) and (ends == 0).any():
        return (
            "boxes never begin at 0, but often at 1: do their numbers count pixels from 1? Then subtract 1 from x1, y1"
        )
    if nearly(ends, 1) and (starts == 0).any():
        return (
            "boxes never end at the image's side, but often a pixel before: is the last pixel meant to belong to the "
            "box? Then add 1 to x2, y2"
        )
    return None
