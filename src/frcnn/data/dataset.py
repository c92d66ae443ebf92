"""A data set: class names and the records of each split, checked before anything is trained on them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats import FORMATS
from frcnn.data.images import verify_image
from frcnn.types import Record

_SHOWN = 10  # problems listed in one error


class Dataset(NamedTuple):
    name: str
    classes: tuple[str, ...]
    """Label i is classes[i - 1]."""
    train: list[Record]
    test: list[Record]


def open_dataset(folder: Path, settings: DataSettings) -> Dataset:
    """Read the annotations of a folder and check them, its images included.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: naming every object that is wrong (the first ten), the rule and the way out.
    """
    train = read_split(folder, "train", settings)
    test = read_split(folder, "test", settings)
    if not any(record.names for record in train):
        raise ValueError(f"{folder}: no training image has an object; {_layouts()}")

    classes = tuple(sorted({name for record in train for name in record.names}))
    for record in test:
        for name in record.names:
            if name not in classes:
                raise ValueError(
                    f"{record.image}: class '{name}' is in the test images only, so it cannot be learned. "
                    f"Add training images of it, or correct the label; training knows: {', '.join(classes)}"
                )
    return Dataset(settings.name or folder.resolve().name, classes, train, test)


def read_split(folder: Path, split: str, settings: DataSettings) -> list[Record]:
    """The checked records of one split, "train" or "test"; same errors as `open_dataset`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of data")
    found = [name for name, form in FORMATS.items() if form.recognises(folder, settings)]
    if not found:
        empty = "the folder is empty" if not any(folder.iterdir()) else "the folder has no known layout"
        raise ValueError(f"{folder}: {empty}; {_layouts()}")
    if len(found) > 1:
        raise ValueError(f"{folder}: fits several layouts ({', '.join(found)}); keep the files of one of them")
    limit = settings.num_train_images if split == "train" else settings.num_test_images
    records = FORMATS[found[0]].read(folder, split, settings)[:limit]
    check(records, settings)
    return records


def check(records: list[Record], settings: DataSettings) -> None:
    """Raise a ValueError that names what would spoil training: unreadable images and impossible boxes."""
    with ThreadPoolExecutor() as pool:
        problems = [problem for found in pool.map(lambda r: _problems(r, settings), records) for problem in found]
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError("\n".join(problems[:_SHOWN]) + more)


def _problems(record: Record, settings: DataSettings) -> list[str]:
    try:
        height, width = verify_image(record.image)
    except (ValueError, OSError) as error:
        return [str(error)]
    problems = []
    if settings.max_boxes is not None and len(record.boxes) > settings.max_boxes:
        problems.append(
            f"{record.image}: has {len(record.boxes)} boxes, data.max_boxes allows {settings.max_boxes}; raise it"
        )
    for number, (box, name) in enumerate(zip(record.boxes, record.names, strict=True), start=1):
        rule = _broken_rule(box, height, width)
        if rule is not None:
            problems.append(f"{record.image}, object {number} ('{name}'): {rule}; correct or remove the box")
    return problems


def _broken_rule(box: np.ndarray, height: int, width: int) -> str | None:
    if not np.isfinite(box).all():
        return f"box {_numbers(box)} has a coordinate that is not a finite number"
    x1, y1, x2, y2 = box.tolist()
    if x2 <= x1:
        return f"x2 ({x2:g}) must be greater than x1 ({x1:g})"
    if y2 <= y1:
        return f"y2 ({y2:g}) must be greater than y1 ({y1:g})"
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        return f"box {_numbers(box)} must lie inside the image ({width} x {height} pixels)"
    return None


def _numbers(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box.tolist()) + ")"


def _layouts() -> str:
    return "known layouts: " + "; or ".join(f"{name}: {form.layout}" for name, form in FORMATS.items())
