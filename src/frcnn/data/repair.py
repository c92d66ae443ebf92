"""Unambiguous repairs of boxes. Each repair is reported; nothing on the disk is changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from frcnn.data.images import TRANSPOSED
from frcnn.data.problems import Level, Problem, ProblemKind, format_box, object_place
from frcnn.data.records import Record, keep_objects
from frcnn.files import CONTROLS, MAX_NAME
from frcnn.messages import clipped, plural

MAX_OUTSIDE = (2.0, 0.01)
"""Pixels, and fraction of the image's side: a box that leaves its image by no more than one of them is clipped,
whatever part of its area is inside."""
ROUNDING = 0.02
"""Pixels: COCO writes two decimals and YOLO six of a fraction, so boxes at a border leave the image by this much. They
are clipped without a word."""
MIN_INSIDE = 0.5
"""Boxes that leave the image by more are clipped if at least this fraction of their area is inside."""
SAME_SHAPE = 0.01
"""Largest relative difference of two aspect ratios that are the same but for rounding."""


class RotatedImage(NamedTuple):
    """An image with an EXIF orientation, and its objects as its annotation says."""

    record: Record
    stored_size: tuple[int, int]
    """(height, width) without the EXIF orientation."""
    orientation: int
    """EXIF orientation, 2..8."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) with the EXIF orientation applied."""
        return self.stored_size[::-1] if self.orientation in TRANSPOSED else self.stored_size


def repair_rotated(images: Sequence[RotatedImage]) -> tuple[list[Record], list[Problem]]:
    """`rotate_boxes`, then `repair_boxes` for each image."""
    records, problems = rotate_boxes(images)
    repaired = [
        repair_boxes(record, image.size, image.stored_size) for record, image in zip(records, images, strict=True)
    ]
    return [record for record, _ in repaired], problems + [each for _, own in repaired for each in own]


def rotate_boxes(images: Sequence[RotatedImage]) -> tuple[list[Record], list[Problem]]:
    """Rotate boxes that were drawn on images without their EXIF orientation.

    One program drew all boxes of a split. It showed all images with their EXIF orientation, or all without. So all
    images decide together:

    1. If the boxes of an image fit it in one orientation only, it was annotated in this one.
    2. If these images agree, all images were annotated so. If there is no such image, the sizes in the annotations
       decide in the same way.
    3. If images contradict each other, a warning says so. Each of the others goes by the size in its annotation.
    4. If nothing tells the orientation, the boxes stay.

    Args:
        images: those of one split that have an EXIF orientation.

    Returns:
        The records, and what was done.
    """
    by_boxes = [_drawn_unrotated(image) for image in images]
    by_size = [_written_unrotated(image) for image in images]
    votes = by_boxes if {True, False} & set(by_boxes) else by_size
    shared = None if {True, False} <= set(votes) else next((vote for vote in votes if vote is not None), None)
    records: list[Record] = []
    problems: list[Problem] = []
    if {True, False} <= set(votes):
        counts, first, other = Counter(votes), images[votes.index(True)], images[votes.index(False)]
        message = (
            f"{plural(counts[True], 'annotation')} of images with an EXIF orientation are for the unrotated image, as "
            f"here, and {counts[False]} for the rotated one, e.g. {other.record.image}; frcnn decides for each image"
        )
        paths = first.record.image, other.record.image
        problems.append(Problem(ProblemKind.ROTATED_IMAGE, paths[0], message, other=paths[1], level="warning"))
    for image, *own in zip(images, by_boxes, by_size, strict=True):
        is_unrotated = next((vote for vote in (own[0], shared, own[1]) if vote is not None), False)
        if not is_unrotated or not len(image.record.boxes) or not _fits(image.record.boxes, image.stored_size):
            records.append(image.record)
            continue
        boxes = _rotate(image.record.boxes, image.stored_size, image.orientation)
        records.append(image.record._replace(boxes=boxes, size=image.size))
        message = f"its boxes were drawn before its EXIF orientation ({image.orientation}) was applied"
        reason = "" if own[0] else ", as those of other images" if shared else ", as the size in its annotation tells"
        message = f"{message}{reason}; they are rotated with it"
        problems.append(Problem(ProblemKind.UNROTATED_IMAGE, image.record.image, message, level="repaired"))
    return records, problems


def _drawn_unrotated(image: RotatedImage) -> bool | None:
    """Whether the boxes fit the unrotated image only; None: they fit both or neither, or the size in the annotation is
    that of the rotated image, so that a box may be wrong."""
    unrotated, rotated = (_fits(image.record.boxes, size) for size in (image.stored_size, image.size))
    return None if unrotated == rotated or (unrotated and image.record.size == image.size) else unrotated


def _written_unrotated(image: RotatedImage) -> bool | None:
    """Whether the annotation says the size of the unrotated image; None: it says neither size, or they are equal."""
    sizes = image.stored_size, image.size
    return None if sizes[0] == sizes[1] or image.record.size not in sizes else image.record.size == sizes[0]


def _rotate(boxes: np.ndarray, stored_size: tuple[int, int], orientation: int) -> np.ndarray:
    """The boxes (G, 4) on the image with its EXIF orientation applied: transposed first, then mirrored."""
    height, width = stored_size
    x1, y1, x2, y2 = boxes.T
    if orientation in TRANSPOSED:
        x1, y1, x2, y2, height, width = y1, x1, y2, x2, width, height
    if orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    return np.stack((x1, y1, x2, y2), axis=1).astype(np.float32)


def _fits(boxes: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether all boxes that are finite are inside an image of this size, but for `MAX_OUTSIDE`."""
    finite = boxes[np.isfinite(boxes).all(axis=1)]
    sides, limits = np.array([size[1], size[0]] * 2), _limits(size)
    return bool((finite >= -limits).all() and (finite <= sides + limits).all())


def _limits(size: tuple[int, int]) -> np.ndarray:
    """(4,): how far the sides of a box may leave an image of this size."""
    height, width = size
    return np.maximum(MAX_OUTSIDE[0], MAX_OUTSIDE[1] * np.array([width, height] * 2))


def repair_boxes(
    record: Record, size: tuple[int, int], stored_size: tuple[int, int] | None = None
) -> tuple[Record, list[Problem]]:
    """Correct the boxes of one image, and leave out those that cannot be corrected.

    Control characters in class names become spaces.

    Then, in this order: boxes for another resolution of the image are scaled, swapped corners are ordered, boxes that
    leave the image are clipped. Boxes that are not finite, have no area or lie mostly outside are left out, and so are
    objects without a class, or with a class whose name is too long for a model file. A warning says that the annotation
    is for another size of the image, and is not scaled.

    Args:
        size: (height, width) of the image, with its EXIF orientation applied.
        stored_size: (height, width) without it, if the image has an EXIF orientation.

    Returns:
        The record, with the size of the file; and one problem for each object that was changed or left out, "repaired"
        or "left out", and those of the size.
    """
    problems: list[Problem] = []
    if any(map(CONTROLS.search, set(record.class_names))):
        names = tuple(CONTROLS.sub(" ", name).strip() for name in record.class_names)
        for index, (before, after) in enumerate(zip(record.class_names, names, strict=True)):
            if before != after:
                message = f"the class {before!a} has control characters; it becomes {after!a}"
                place = object_place(index, after)
                problems.append(
                    Problem(ProblemKind.CONTROL_CHARACTERS, record.image, message, place, index, level="repaired")
                )
        record = record._replace(class_names=names)
    scale = _scale(record, size)
    boxes = record.boxes.astype(np.float64)
    if scale is not None:
        boxes *= np.tile(scale[::-1], 2)
        message = f"boxes are for {_pixels(record.size or (0, 0))}, the image has {_pixels(size)}; they are scaled"
        problems.append(Problem(ProblemKind.OTHER_RESOLUTION, record.image, message, level="repaired"))
    elif record.size is not None and min(record.size) > 0 and record.size not in (size, stored_size):
        message = (
            f"its annotation says {_pixels(record.size)}, the file has {_pixels(stored_size or size)}; were the boxes "
            f"drawn on another version of it? They are not scaled"
        )
        problems.append(Problem(ProblemKind.OTHER_SIZE, record.image, message, level="warning"))
    record = record._replace(size=size)
    if scale is None and _is_good(boxes, record.class_names, size):
        return record, problems
    keep = np.ones(len(boxes), bool)
    for index, name in enumerate(record.class_names):
        boxes[index], done = _repaired(boxes[index], name, size)
        for kind, message, level in done:
            keep[index] &= level != "left out"
            lost = (name,) if level == "left out" else ()
            box = tuple(boxes[index].tolist()) if np.isfinite(boxes[index]).all() else None
            place = object_place(index, clipped(name))
            problems.append(Problem(kind, record.image, message, place, index, level=level, lost=lost, box=box))
    return keep_objects(record._replace(boxes=boxes.astype(np.float32)), keep), problems


def _is_good(boxes: np.ndarray, names: Sequence[str], size: tuple[int, int]) -> bool:
    """Whether no box needs a repair; almost all images pass. A new rule of `_repaired` must be repeated here, because
    images that pass skip it."""
    height, width = size
    is_inside = (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    has_classes = all(name.strip() and len(name) <= MAX_NAME for name in names)
    return bool(is_inside and (boxes[:, 2:] > boxes[:, :2]).all() and has_classes)


def _repaired(
    box: np.ndarray, name: str, size: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[ProblemKind, str, Level]]]:
    """One box after its repairs, and for each of them its kind, a message and the level."""
    height, width = size
    if not name.strip():
        return box, [(ProblemKind.INVALID_OBJECT, "has no class; it is left out", "left out")]
    if len(name) > MAX_NAME:
        message = f"the name of its class has {len(name):,} characters, more than {MAX_NAME:,}; it is left out"
        return box, [(ProblemKind.INVALID_OBJECT, message, "left out")]
    if not np.isfinite(box).all():
        return box, [(ProblemKind.NON_FINITE_BOX, f"box {format_box(box)} is not finite; it is left out", "left out")]
    done: list[tuple[ProblemKind, str, Level]] = []
    ordered = np.concatenate((np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])))
    if (ordered != box).any():
        done.append(
            (ProblemKind.SWAPPED_CORNERS, f"the corners of box {format_box(box)} are in the wrong order", "repaired")
        )
    area = float((ordered[2:] - ordered[:2]).prod())
    if area <= 0:
        message = f"box {format_box(box)} has no area (x2 must be greater than x1, y2 greater than y1); it is left out"
        return box, [(ProblemKind.WITHOUT_AREA, message, "left out")]
    clipped = ordered.clip(0, [width, height, width, height])
    inside = float((clipped[2:] - clipped[:2]).prod()) / area
    if inside > 0 and (np.abs(clipped - ordered) <= ROUNDING).all():
        return clipped, done
    where = f"box {format_box(ordered)} leaves the image ({_pixels(size)})"
    limits = _limits(size)
    if inside > 0 and ((np.abs(clipped - ordered) <= limits).all() or inside >= MIN_INSIDE):
        return clipped, [*done, (ProblemKind.OUTSIDE, f"{where}; it is clipped", "repaired")]
    share = "wholly" if inside <= 0 else f"by {1 - inside:.0%} of its area"
    return box, [(ProblemKind.OUTSIDE, f"{where} {share}; it is left out", "left out")]


def _scale(record: Record, size: tuple[int, int]) -> np.ndarray | None:
    """(y, x) factors from the size that the annotation says to that of the image, if the image was resized after it was
    annotated: both have the same shape, and the boxes fit the size that the annotation says. A box that is wrong in
    itself, e.g. without area, changes nothing."""
    if record.size is None or min(record.size) < 1 or record.size == size or not len(record.boxes):
        return None
    factors = np.array(size) / np.array(record.size)
    if abs(math.log(factors[0] / factors[1])) > SAME_SHAPE or abs(math.log(factors[0])) < SAME_SHAPE:
        return None
    return factors if _fits(record.boxes, record.size) else None


def _pixels(size: tuple[int, int]) -> str:
    """Width x height, as people write it."""
    return f"{size[1]} x {size[0]} pixels"
