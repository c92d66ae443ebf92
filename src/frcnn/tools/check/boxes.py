"""Warnings about boxes: single ones, those of one image, and those of the whole data set."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from frcnn.data.problems import Problem, ProblemKind, common_areas, has_area, object_place
from frcnn.data.records import Record
from frcnn.resizing import Resizing, input_size

TINY = 8.0
"""Input pixels: half a cell of a feature map of stride 16."""
HUGE = 0.95
EXTREME = 8.0
SAME = 0.9
INSIDE = 0.98
_ENOUGH = 5  # boxes at a border, before they say something


def kept_objects(count: int, problems: Iterable[Problem]) -> list[int]:
    """The indices of the objects that the repair of an image kept, among those of its annotation.

    Args:
        count: of the objects in the annotation.
        problems: of this image.
    """
    lost = {problem.object for problem in problems if problem.level == "left out"}
    return [index for index in range(count) if index not in lost]


def odd_boxes(
    record: Record, size: tuple[int, int], settings: Resizing, numbers: Sequence[int] | None = None
) -> Iterator[Problem]:
    """Warnings for the boxes of one image.

    Args:
        record: after its repair.
        size: of the image, (height, width).
        settings: how it is resized for training.
        numbers: the index of each object in the annotation, if the repair left some out.
    """
    boxes = record.boxes
    numbers = range(len(boxes)) if numbers is None else numbers
    good = has_area(boxes)
    scale = input_size(size, settings)[0] / size[0]
    for number in np.flatnonzero(good):
        x1, y1, x2, y2 = boxes[number].tolist()
        width, height = x2 - x1, y2 - y1

        def warning(kind: ProblemKind, message: str, number: int = int(number)) -> Problem:
            place = object_place(numbers[number], record.class_names[number])
            return Problem(kind, record.image, message, place, numbers[number], level="warning")

        if min(width, height) * scale < TINY:
            small = f"{width * scale:.1f} x {height * scale:.1f}"
            yield warning(
                ProblemKind.TINY_BOX, f"is {small} pixels at the training size, less than {TINY:g}; is it an object?"
            )
        if width * height > HUGE * size[0] * size[1]:
            yield warning(
                ProblemKind.HUGE_BOX,
                f"covers {width * height / (size[0] * size[1]):.0%} of the image; is it drawn by mistake?",
            )
        if max(width / height, height / width) > EXTREME:
            yield warning(ProblemKind.EXTREME_SHAPE, f"is {width:g} x {height:g} pixels, more than {EXTREME:g} to 1")
    yield from _pairs(record, np.flatnonzero(good & ~record.ignore), numbers)


def _pairs(record: Record, chosen: np.ndarray, numbers: Sequence[int]) -> Iterator[Problem]:
    """Boxes that nearly equal an earlier one, or lie inside another one; each box once."""
    boxes = np.asfortranarray(record.boxes[chosen])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    names = [record.class_names[index] for index in chosen]
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    labels = np.array([codes[name] for name in names], np.int32)

    def place(index: int) -> str:
        return object_place(numbers[chosen[index]], names[index])

    def warning(kind: ProblemKind, index: int, message: str) -> Problem:
        return Problem(kind, record.image, message, place(index), numbers[chosen[index]], level="warning")

    for index, (box, area) in enumerate(zip(boxes, areas, strict=True)):  # row by row: an image may have thousands
        common = common_areas(box, boxes)
        near = np.flatnonzero(common > area / 2)  # no other box nearly equals it, or is around it
        common, others = common[near], areas[near]
        overlaps = common / (area + others - common)
        equal = np.flatnonzero((overlaps >= SAME) & (near < index))
        if len(equal):
            first = int(near[equal[0]])
            kind = ProblemKind.DRAWN_TWICE if names[first] == names[index] else ProblemKind.TWO_CLASSES
            yield warning(kind, index, f"nearly equals {place(first)} (IoU {overlaps[equal[0]]:.2f}); remove one")
            continue
        is_around = (common >= INSIDE * area) & (others > area) & (overlaps < SAME) & (labels[near] == labels[index])
        around = near[is_around]
        if len(around):
            outer = place(int(around[0]))
            yield warning(
                ProblemKind.INSIDE_ANOTHER, index, f"lies inside {outer}; a part of it, or an object of its own?"
            )


def off_by_one(records: Sequence[Record], sizes: Sequence[tuple[int, int] | None]) -> str | None:
    """A warning if the boxes look as if pixels were counted from 1, or as if the last pixel was left out: the
    coordinates are whole numbers that never reach one border of the image, but often come within one pixel of it."""
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
