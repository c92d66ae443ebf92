"""A data set: class names and the records of each split, checked before anything is trained on them."""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from frcnn.config import DataSettings
from frcnn.data.formats import FORMATS, WITH_SETS
from frcnn.data.images import verify_image
from frcnn.data.records import Records
from frcnn.ops.sampling import generator_of
from frcnn.types import Record

_SHOWN = 10  # problems listed in one error


class Dataset(NamedTuple):
    name: str
    classes: tuple[str, ...]
    """Label i is classes[i - 1]."""
    train: Records
    val: Records
    """What is measured on while training; may be empty."""
    test: Records

    def fingerprint(self) -> str:
        """Of the images to train on and to validate on and their boxes: the same for the same data in the same
        place."""
        digest = hashlib.sha256()
        for part in (self.train, self.val):
            for record in part:
                digest.update(f"{record.image}\0{record.names}".encode("utf-8", "surrogateescape"))
                digest.update(record.boxes.tobytes() + record.difficult.tobytes())
            digest.update(b"\0\0")
        return digest.hexdigest()


def open_dataset(folder: Path, settings: DataSettings) -> Dataset:
    """Read the annotations of a folder and check them, its images included.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        ValueError: naming every object that is wrong (the first ten), the rule and the way out.
    """
    train, val, test = (read_split(folder, split, settings) for split in ("train", "val", "test"))
    if not any(record.names for record in train):
        raise ValueError(f"{folder}: no training image has an object; {_layouts()}")

    classes = tuple(sorted({name for record in train for name in record.names}))
    for where, records in (("validation", val), ("test", test)):
        for record in records:
            for name in record.names:
                if name not in classes:
                    raise ValueError(
                        f"{record.image}: class '{name}' is in the {where} images only, so it cannot be learned. "
                        f"Add training images of it, or correct the label; training knows: {', '.join(classes)}"
                    )
    return Dataset(settings.name or folder.resolve().name, classes, train, val, test)


def read_split(folder: Path, split: str, settings: DataSettings) -> Records:
    """The checked records of one split, "train", "val" or "test"; same errors as `open_dataset`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of data")
    found = [name for name, form in FORMATS.items() if form.recognises(folder, settings)]
    if not found:
        empty = "the folder is empty" if not any(folder.iterdir()) else "the folder has no known layout"
        raise ValueError(f"{folder}: {empty}; {_layouts()}")
    if len(found) > 1:
        raise ValueError(f"{folder}: fits several layouts ({', '.join(found)}); keep the files of one of them")
    read = FORMATS[found[0]].read
    if split == "val" and settings.val_set is None and not settings.val_fraction:
        return Records.of(())
    if split == "val" and settings.val_set is not None:
        if found[0] not in WITH_SETS:
            raise ValueError(f"{folder}: has no set '{settings.val_set}' (data.val_set); data.val_fraction takes some")
        records = Records.of(read(folder, "test", settings.model_copy(update={"test_set": settings.val_set})))
    elif split == "test":
        records = Records.of(read(folder, "test", settings))[: settings.num_test_images]
    else:
        records = _part(Records.of(read(folder, "train", settings))[: settings.num_train_images], split, settings)
    check(records, settings)
    return records


def _part(records: Records, split: str, settings: DataSettings) -> Records:
    """The images that remain to train on, or those set aside to validate on: the same ones every time."""
    fraction = settings.val_fraction if settings.val_set is None else 0.0
    count = max(min(math.ceil(fraction * len(records)), len(records) - 1), 0)
    order = torch.randperm(len(records), generator=generator_of(0)).numpy()
    return records.take(np.sort(order[:count] if split == "val" else order[count:]))


def check(records: Sequence[Record], settings: DataSettings) -> None:
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
