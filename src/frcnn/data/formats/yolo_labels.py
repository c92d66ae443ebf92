"""The lines of YOLO's label files. (Helper, not a format.)"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.messages import plural

_VISIBILITY = frozenset({0.0, 1.0, 2.0})
_BORDER = 0.01  # of an image's side; boxes that leave the image by less are inside
_ENOUGH = 10  # boxes in fractions that can be corners; fewer are so by chance
_SAMPLE = 10  # lines that tell what a file is
_PIXELS = 2.0  # no fraction of an image's side is larger, not even for a box that leaves the image


class Line(NamedTuple):
    """One object as it is written."""

    label: str
    """The number or the name of its class."""
    values: list[float]
    """At least four numbers: center and size, or the points of an outline; maybe more behind them."""


class Convention(NamedTuple):
    """How the label files of a data set are meant, where they differ from YOLO's rule."""

    has_keypoints: bool = False
    """Center and size are followed by keypoints, not by the points of an outline."""
    in_pixels: bool = False
    """Coordinates are pixels, not fractions of the image's sides."""
    has_corners: bool = False
    """Boxes are x1 y1 x2 y2, not center and size."""
    first_class: int = 0
    """The number of the first class, 0 or 1."""
    has_numbers: bool = True
    """Some lines have the number of a class, not its name."""
    num_confidences: int = 0
    """How many lines end with a confidence, as those of detections do."""


PLAIN = Convention()
"""YOLO's rule."""


def parse_line(text: str) -> Line | None:
    """Class and numbers of a line; None: it is no line of a label file."""
    parts = text.split()
    if "," in text or ";" in text:
        parts = text.replace(";", " ").replace(", ", " ").split()
        if len(parts) < 5:
            parts = text.replace(";", " ").replace(",", " ").split()
        parts = [part.rstrip(",").replace(",", ".") for part in parts]  # "0,5" is 0.5
    for start in range(1, len(parts) - 3):  # the names of some classes have several words
        try:
            values = [float(part) for part in parts[start:]]
        except ValueError:
            continue
        label = " ".join(parts[:start])
        return None if _is_other(label, values) else Line(label, values)
    return None


def _is_other(label: str, values: Sequence[float]) -> bool:
    """Whether it is a line of KITTI, VisDrone, ExDark, CNTK's map files, or of a list of images with their boxes."""
    if len(values) > 5 and len(values) % 2 and max(values[:4]) > _PIXELS:
        return True  # neither a box in pixels with a confidence nor an outline
    number, *more = label.split()
    if to_number(number) is not None:
        return bool(more)
    is_kitti = len(values) == 14 and not all(0 <= value <= 1 for value in values)
    return is_kitti or label.lower().endswith(tuple(IMAGE_SUFFIXES))


def to_number(label: str) -> float | None:
    """The number of a class, also written as 0.0; None: a name."""
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def are_labels(lines: Iterable[str]) -> bool:
    """Whether at least half of the first lines are lines of a label file, and none is a comment. True without lines."""
    sample = list(islice(filter(str.strip, lines), _SAMPLE))
    is_other = any(line.lstrip().startswith(("%", "#")) for line in sample)
    return not is_other and 2 * sum(parse_line(line) is not None for line in sample) >= len(sample)


def convention_of(lines: Iterable[Line], num_classes: int | None, *, has_keypoints: bool) -> Convention:
    """The convention of a data set, by all its lines. Whether boxes in pixels are corners, `has_corners` tells.

    Args:
        lines: of all label files.
        num_classes: how many classes have names; None: it is not known.
        has_keypoints: whether the data set says so itself.

    Raises:
        ValueError: the boxes may be corners, or the classes may be counted from 1, but that is not sure.
    """
    total = pixels = confidences = 0
    lengths: set[int] = set()
    numbers: Counter[float] = Counter()
    boxes: Counter[tuple[bool, bool]] = Counter()
    are_triples = True
    for line in lines:
        label, values = line
        total += 1
        lengths.add(len(values))
        number = to_number(label)
        if number is not None:
            numbers[number] += 1
        pixels += not is_fraction(line)
        confidences += len(values) % 2 and 0 <= values[-1] <= 1
        if len(values) < 6:
            boxes[_are_inside(values, (1, 1))] += 1
        else:
            are_triples = are_triples and _VISIBILITY.issuperset(values[6::3])
    length = min(lengths, default=4)
    # Outlines would not all have as many points. Pairs, as those of oriented boxes, are never taken for keypoints.
    has_keypoints |= len(lengths) == 1 and length > 5 and length % 3 == 1 and are_triples
    in_pixels = total > 0 and pixels >= 0.9 * total
    are_corners = False
    centers, corners = (sum(count for inside, count in boxes.items() if inside[reading]) for reading in (0, 1))
    if not in_pixels and boxes.total() >= _ENOUGH and corners >= 0.99 * boxes.total() > 1.1 * centers:
        if centers > 0.5 * boxes.total():
            raise ValueError(
                f"the boxes may be corners: of {boxes.total()}, {boxes.total() - centers} leave their images as "
                f"`cx cy width height`, {boxes.total() - corners} as `x1 y1 x2 y2`; write each box as "
                f"`class cx cy width height`, inside its image"
            )
        are_corners = True
    first_class = _first_class(numbers, num_classes)
    return Convention(
        has_keypoints, in_pixels, are_corners, first_class, bool(numbers), 0 if has_keypoints else confidences
    )


def has_corners(boxes: Iterable[tuple[Line, tuple[int, int]]]) -> bool:
    """Whether boxes in pixels are x1 y1 x2 y2, not center and size: only so they lie in their images.

    Args:
        boxes: each line of the label files, with the (height, width) of its image.

    Raises:
        ValueError: neither reading fits, or both do.
    """
    inside = Counter(_are_inside(line.values, size) for line, size in boxes)
    total = inside.total()
    centers, corners = (sum(count for key, count in inside.items() if key[reading]) for reading in (0, 1))
    if max(centers, corners) >= 0.99 * total and (centers >= 0.99 * total or centers < 0.9 * total):
        return centers < 0.9 * total
    raise ValueError(
        f"the coordinates are pixels, but not surely center and size, nor corners: of {plural(total, 'box', 'boxes')}, "
        f"{total - centers} leave their images as `cx cy width height`, {total - corners} as `x1 y1 x2 y2`; write "
        f"each as `class cx cy width height`, fractions of the image's sides"
    )


def _are_inside(values: Sequence[float], size: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a box is inside its image if it is center and size, and if it is corners. An outline is either or not."""
    height, width = size
    if len(values) > 5:
        points = values[: len(values) // 2 * 2]
        is_inside = _is_inside(
            (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])), width, height
        )
        return is_inside, is_inside
    x, y, w, h = values[:4]
    centered = _is_inside((x - w / 2, y - h / 2, x + w / 2, y + h / 2), width, height)
    return centered, w > x and h > y and _is_inside((x, y, w, h), width, height)


def _is_inside(sides: Sequence[float], width: int, height: int) -> bool:
    x1, y1, x2, y2 = sides
    across, down = _BORDER * width, _BORDER * height
    return x1 >= -across and y1 >= -down and x2 <= width + across and y2 <= height + down


def _first_class(numbers: Counter[float], num_classes: int | None) -> int:
    """The number of the first class, 0 or 1. One wrong number must not move the classes of all other objects."""
    if not numbers or num_classes is None or min(numbers) < 1 or max(numbers) != num_classes:
        return 0
    has_all = set(numbers) == set(range(1, num_classes + 1))
    is_repeated = numbers[num_classes] > 1 or num_classes == 1
    if has_all and is_repeated:
        return 1
    if has_all or is_repeated:
        raise ValueError(
            f"class numbers run from {min(numbers):g} to {num_classes}, names from 0 to {num_classes - 1}; if the "
            f"numbers count from 1, write each one lower; if not, name class {num_classes} or remove its "
            f"{plural(int(numbers[num_classes]), 'object')}"
        )
    return 0


def is_fraction(line: Line) -> bool:
    """Whether the coordinates of a line can be fractions of the image's sides."""
    return max(line.values[:4]) <= _PIXELS


def has_wrong_end(values: Sequence[float], convention: Convention) -> bool:
    """Whether an odd number at the end is no confidence, but e.g. the angle of a box."""
    return len(values) % 2 == 1 and not convention.has_keypoints and not 0 <= values[-1] <= 1


def to_box(values: Sequence[float], size: tuple[int, int], convention: Convention) -> tuple[float, float, float, float]:
    """The box in pixels. It is rounded to 1/10000, which restores whole numbers that were written as fractions.

    Args:
        values: of a `Line`. An odd number at the end is a confidence.
        size: (height, width), pixels.
        convention: of the data set.
    """
    if len(values) < 6 or convention.has_keypoints:
        x, y, w, h = values[:4]
        sides = (x, y, w, h) if convention.has_corners else (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        points = values[: len(values) // 2 * 2]
        sides = (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2]))
    height, width = (1, 1) if convention.in_pixels else size
    x1, y1, x2, y2 = (round(side * scale, 4) for side, scale in zip(sides, (width, height) * 2, strict=True))
    return x1, y1, x2, y2


def to_line(label: str, box: Sequence[float], size: tuple[int, int], convention: Convention = PLAIN) -> str:
    """The line of a box in pixels."""
    x1, y1, x2, y2 = box
    height, width = (1, 1) if convention.in_pixels else size
    numbers = box if convention.has_corners else ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    values = [number / side for number, side in zip(numbers, (width, height) * 2, strict=True)]
    return f"{label} {' '.join(f'{value:.10g}' for value in values)}"
