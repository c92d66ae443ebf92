"""The fingerprint of a data set: the few figures about images and objects that a plan is made from.

Isensee et al. 2021 (nnU-Net, Nature Methods 18) plan segmentation from such a fingerprint; this one is for boxes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from frcnn.data.records import Record
from frcnn.data.tiles import size_of

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_SIDE_WORDS = {"left": "right", "right": "left", "l": "r", "r": "l"}
_ENOUGH = 20  # objects of a class, to say where they are
_ONE_SIDED = 0.9  # of a class in one half of the images

Quantiles = tuple[float, ...]
"""At `QUANTILES`."""


class ClassFingerprint(NamedTuple):
    """The objects of one class."""

    objects: int
    images: int
    """Images with at least one."""
    size: Quantiles
    """Square root of the area, pixels."""


class Fingerprint(NamedTuple):
    """Figures about the training images and the objects in them. Ignored objects do not count."""

    images: int
    empty_images: int
    """Images without objects."""
    objects: int
    shorter_side: Quantiles
    """Of the images, pixels."""
    longer_side: Quantiles
    """Of the images, pixels."""
    shape: Quantiles
    """Longer side / shorter side of the images."""
    size: Quantiles
    """Square root of the area of the objects, pixels."""
    relative_size: Quantiles
    """Size of the objects / longer side of their image."""
    shortest_side: Quantiles
    """Shorter side of the objects, pixels."""
    aspect_ratio: Quantiles
    """Height / width of the objects."""
    objects_per_image: Quantiles
    """Of the images with objects."""
    overlapping: float
    """Fraction of the objects that overlap another one of their class with an IoU of 0.3 or more."""
    mirrored_classes: tuple[str, ...]
    """Classes that a mirror image would turn into others: named as left and right, each on one side of the image, or
    looking like one another's mirror image."""
    classes: dict[str, ClassFingerprint]
    """By name, sorted."""


def fingerprint(records: Sequence[Record], mirrored_by_looks: Collection[str] = ()) -> Fingerprint:
    """The fingerprint of training images.

    Args:
        records: verified images, or tiles.
        mirrored_by_looks: see `frcnn.planning.mirror.mirrored_by_looks`, which reads the images.

    Raises:
        ValueError: there is no object.
    """
    counted = [~record.ignore for record in records]
    boxes = np.concatenate([np.zeros((0, 4)), *(r.boxes[keep] for r, keep in zip(records, counted, strict=True))])
    if not len(boxes):
        raise ValueError("no training image has an object, so there is nothing to plan from")
    per_image = np.array([int(keep.sum()) for keep in counted])
    image = np.repeat(np.arange(len(records)), per_image)
    names = np.array([name for r, keep in zip(records, counted, strict=True) for name in np.array(r.class_names)[keep]])
    height_width = np.array([size_of(record) for record in records], float).reshape(-1, 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    size = np.sqrt(sides.prod(axis=1))
    longer = height_width.max(axis=1)
    center = (boxes[:, 0] + boxes[:, 2]) / 2 / height_width[image, 1]
    by_class = {
        str(name): ClassFingerprint(
            int((names == name).sum()), len(np.unique(image[names == name])), _quantiles(size[names == name])
        )
        for name in np.unique(names)
    }
    centers = {name: center[names == name] for name in by_class}
    return Fingerprint(
        images=len(records),
        empty_images=int((per_image == 0).sum()),
        objects=len(boxes),
        shorter_side=_quantiles(height_width.min(axis=1)),
        longer_side=_quantiles(longer),
        shape=_quantiles(longer / height_width.min(axis=1)),
        size=_quantiles(size),
        relative_size=_quantiles(size / longer[image]),
        shortest_side=_quantiles(sides.min(axis=1)),
        aspect_ratio=_quantiles(sides[:, 1] / sides[:, 0]),
        objects_per_image=_quantiles(per_image[per_image > 0]),
        overlapping=_overlapping(boxes, image, names),
        mirrored_classes=tuple(sorted({*mirrored_classes(centers), *mirrored_by_looks})),
        classes=by_class,
    )


def mirrored_classes(centers: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Classes that a mirror image turns into others, sorted.

    Two classes whose names differ by left and right do. So do classes of which nearly all objects are in the left half
    of their image, if those of another one are in the right half: the side is then what tells them apart.

    Args:
        centers: of each class, the horizontal centers of its objects, 0 (left border of the image) to 1.
    """
    pairs = {name for name in centers if (other := _other_side(name)) is not None and other in centers}
    enough = {name: x for name, x in centers.items() if len(x) >= _ENOUGH}
    left = {name for name, x in enough.items() if (x < 0.5).mean() >= _ONE_SIDED}
    right = {name for name, x in enough.items() if (x > 0.5).mean() >= _ONE_SIDED}
    return tuple(sorted(pairs | (left | right if left and right else set())))


def _other_side(name: str) -> str | None:
    """The name with left and right exchanged, e.g. "turn-right" of "turn-left"; None: it has no such word.

    If it is not a word, it may be the start or the end of the name, e.g. of "turnleft".
    """
    parts = re.split(r"([^A-Za-z]+|(?<=[a-z])(?=[A-Z]))", name)
    other = "".join(_swapped(part) for part in parts)
    if other == name:
        other = re.sub(
            "^(left|right)|(left|right)$", lambda side: _swapped(side[0]), name, count=1, flags=re.IGNORECASE
        )
    return other if other != name else None


def _swapped(word: str) -> str:
    """ "right" of "left", in the same case; other words stay."""
    other = _SIDE_WORDS.get(word.lower())
    if other is None:
        return word
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _overlapping(boxes: np.ndarray, image: np.ndarray, names: np.ndarray) -> float:
    """The fraction of boxes with another one of their class and image at an IoU of 0.3 or more."""
    overlaps = np.zeros(len(boxes), bool)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    _, group = np.unique(np.array([f"{i}\0{name}" for i, name in zip(image, names, strict=True)]), return_inverse=True)
    order = np.argsort(group, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        for at in range(0, len(own), 256):  # few rows at a time: an image may hold thousands of objects
            rows = own[at : at + 256]
            low = np.maximum(boxes[rows, None, :2], boxes[None, own, :2])
            high = np.minimum(boxes[rows, None, 2:], boxes[None, own, 2:])
            common = (high - low).clip(min=0).prod(axis=2)
            iou = common / (area[rows, None] + area[None, own] - common)
            overlaps[rows] = (iou >= 0.3).sum(axis=1) > 1  # itself, and another
    return float(overlaps.mean())


def _quantiles(values: np.ndarray) -> Quantiles:
    """Four significant digits."""
    return tuple(float(f"{value:.4g}") for value in np.quantile(values, QUANTILES))
