"""A corrected copy of a data set, and what was done to it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.checking.report import Check
from frcnn.data.convert import write_dataset
from frcnn.data.formats import WRITABLE
from frcnn.data.images import image_size
from frcnn.data.problems import object_place
from frcnn.files import write_text
from frcnn.types import Record

CHANGES_FILE = "changes.txt"


class Fixed(NamedTuple):
    """What was done."""

    format: str
    changes: list[str]


def fix(check: Check, out: Path) -> Fixed:
    """Write a copy of the data set without its errors, in its own format, or in COCO's where that cannot be written;
    the original stays as it is.

    Boxes without area go, boxes inside out are turned, boxes out of the image end at its border (or go, if nothing is
    left), boxes drawn twice go; images that cannot be read go. What is a matter of judgement stays.

    Raises:
        FileExistsError: `out` holds something.
    """
    form = check.format if check.format in WRITABLE else "coco"
    unreadable = {problem.path for problem in check.errors if problem.kind == "image cannot be read"}
    changes = [f"{problem}: left out" for problem in check.errors if problem.kind in _LEFT_OUT]
    changes += [
        f"{problem}: not mended"
        for problem in check.errors
        if problem.kind not in _MENDED and problem.kind not in _LEFT_OUT
    ]
    twice = {(problem.path, problem.object) for problem in check.problems if problem.kind == "box drawn twice"}
    sets: dict[str, list[Record]] = {}
    for name, records in check.splits.items():
        for record in records:
            if record.image in unreadable:
                continue
            least = 1.0 if form == "pascal_voc" else 0.0
            mended, done = _mended(record, {number for path, number in twice if path == record.image}, least)
            changes += done
            sets.setdefault(name, []).append(mended)
    conversion = write_dataset(sets, out, form)
    changes += conversion.notes
    write_text(out / CHANGES_FILE, "".join(f"{change}\n" for change in changes))
    return Fixed(form, changes)


_MENDED = {"box without area", "box inside out", "box out of the image", "box that is no number"}
_LEFT_OUT = {
    "image cannot be read",
    "annotation cannot be read",
    "annotation without image",
    "image without annotation",
    "half an annotation",
    "boxes and labels differ in number",
    "not a box",
    "not a row",
    "unknown class",
}


def _mended(record: Record, twice: set[int | None], least: float) -> tuple[Record, list[str]]:
    """Without what cannot stay; boxes of `least` pixels or less cannot be written."""
    height, width = image_size(record.image)
    boxes = record.boxes.copy()
    keep = np.ones(len(boxes), bool)
    changes = []
    for number, box in enumerate(boxes):
        where = f"{record.image}, {object_place(number, record.names[number])}"
        for what in _mend(box, height, width):
            changes.append(f"{where}: {what}")
        if not (box[2:] - box[:2] > least).all():
            keep[number] = False
            changes.append(f"{where}: removed, since the box has no area" + (", or a pixel's" if least else ""))
        elif number in twice:
            keep[number] = False
            changes.append(f"{where}: removed, since it was drawn twice")
    names = tuple(name for name, kept in zip(record.names, keep, strict=True) if kept)
    return record._replace(boxes=boxes[keep], names=names, difficult=record.difficult[keep]), changes


def _mend(box: np.ndarray, height: int, width: int) -> Iterator[str]:
    """In place."""
    if not np.isfinite(box).all():
        box[:] = 0
        return
    for low, high, axis in ((0, 2, "x"), (1, 3, "y")):
        if box[high] < box[low]:
            box[[low, high]] = box[[high, low]]
            yield f"{axis}1 and {axis}2 change places"
    clipped = box.clip(0, np.array([width, height] * 2, np.float32))
    if (clipped != box).any():
        yield f"box {_numbers(box)} becomes {_numbers(clipped)}, inside the image"
        box[:] = clipped


def _numbers(box: Sequence[float] | np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
