"""A data set: class names and the records of each split, checked before anything is trained on them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frcnn.data.ahead import READERS, read_ahead
from frcnn.data.formats import FORMATS, NOT_HERE, Format
from frcnn.data.images import images_among, verify_image
from frcnn.data.problems import Problem, Report, object_place
from frcnn.data.records import Records
from frcnn.data.split import draw
from frcnn.types import Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

SPLITS = ("train", "val", "test")
_SHOWN = 10  # problems listed in one error


class Dataset(NamedTuple):
    name: str
    classes: tuple[str, ...]
    """Label i is classes[i - 1]."""
    train: Records
    val: Records
    """What is measured on while training; may be empty."""
    test: Records
    warnings: tuple[Problem, ...] = ()
    """What is left out of it, and what is odd, as far as reading tells."""

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
    splits, warnings = _checked(folder, settings, SPLITS)
    train = splits["train"]
    classes = tuple(train.class_counts)
    if not classes:
        raise ValueError(f"{folder}: no training image has an object; {_layouts()}")
    for where, split in (("validation", "val"), ("test", "test")):
        for name in splits[split].class_counts:
            if name not in classes:
                image = next(record.image for record in splits[split] if name in record.names)
                raise ValueError(
                    f"{image}: class '{name}' is in the {where} images only, so it cannot be learned. "
                    f"Add training images of it, or correct the label; training knows: {', '.join(classes)}"
                )
    name = settings.name or folder.resolve().name
    return Dataset(name, classes, splits["train"], splits["val"], splits["test"], tuple(warnings))


def read_split(folder: Path, split: str, settings: DataSettings) -> Records:
    """The checked records of one split, "train", "val" or "test"; same errors as `open_dataset`."""
    return _checked(folder, settings, (split,))[0][split]


def unused_sets(folder: Path, settings: DataSettings) -> list[str]:
    """The sets of a folder that are neither trained on nor measured on; same errors."""
    sets = FORMATS[find_format(folder, settings)].sets(folder, settings)
    if settings.split is not None:
        return []
    used = {_set_name(folder, split, sets, settings) for split in SPLITS}
    return [name for name in sets if name not in used]


def read_annotations(
    folder: Path, settings: DataSettings, report: Report, splits: Collection[str] = SPLITS
) -> dict[str, Records]:
    """The records of these splits as the annotations say; images are opened only where a split has to be drawn, or
    where a format's boxes need their size.

    Args:
        report: takes what is wrong with a line, an object or an image; that one is left out.

    Raises:
        FileNotFoundError, ValueError: nothing can be read, or the settings do not fit.
    """
    form = FORMATS[find_format(folder, settings)]
    sets = form.sets(folder, settings)
    read = cache(lambda name: Records.of(form.read(folder, name, settings, report) if name is not None else ()))
    if settings.split is not None:
        if len(sets) > 1:
            raise ValueError(f"{folder}: has sets of its own ({', '.join(sets)}); leave out data.split, or merge them")
        train, val, test = _draw(read(sets[0] if sets else None), settings.split, settings)
        return {"train": train[: settings.num_train_images], "val": val, "test": test[: settings.num_test_images]}
    names = {split: _set_name(folder, split, sets, settings) for split in splits}
    found = {split: read(name) for split, name in names.items()}
    if "test" in found:
        found["test"] = found["test"][: settings.num_test_images]
    if {"train", "val"} & set(found):
        train = read(_set_name(folder, "train", sets, settings))[: settings.num_train_images]
        if settings.val_fraction and settings.val_set is None:
            parts = _draw(train, (1 - settings.val_fraction, settings.val_fraction), settings)
            found |= {split: part for split, part in zip(SPLITS, parts, strict=False) if split in splits}
        elif "train" in found:
            found["train"] = train
    return found


def find_format(folder: Path, settings: DataSettings, *, of_new: str | None = None) -> str:
    """The name of a folder's format, as the settings say or by looking.

    Args:
        of_new: of a folder of images alone; None: that is an error.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: none fits, or several.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of data")
    if settings.format is not None and settings.format not in FORMATS:
        raise ValueError(
            f"data.format: there is no format '{settings.format}'; choose one of {', '.join(FORMATS)}{NOT_HERE}"
        )
    found = [name for name, form in FORMATS.items() if form.recognises(folder, settings)]
    if settings.format is not None:
        if settings.format not in found:
            fits = f"looks like {' and '.join(found)}" if found else "has no layout that is known"
            reason = _why_not(FORMATS[settings.format], folder, settings)
            raise ValueError(
                f"{folder}: is not {settings.format} ({FORMATS[settings.format].LAYOUT}){reason}; it {fits}"
            )
        return settings.format
    if not found:
        empty = "the folder is empty" if not any(folder.iterdir()) else "the folder has no known layout"
        if images_among(folder.iterdir()):
            if of_new is not None:
                return of_new
            empty = f"there are images, but no annotations of them; `frcnn annotate {folder}` draws boxes"
        raise ValueError(f"{folder}: {empty}; {_layouts()}")
    if len(found) > 1:
        raise ValueError(
            f"{folder}: fits several formats ({', '.join(found)}); say which with --format, or data.format"
        )
    return found[0]


def _why_not(form: Format, folder: Path, settings: DataSettings) -> str:
    """The first thing that reading as this format stumbles over."""
    problems: list[Problem] = []
    try:
        for name in form.sets(folder, settings):
            Records.of(form.read(folder, name, settings, problems.append))
    except (ValueError, OSError) as error:
        return f": {error}"
    return f": {problems[0]}" if problems else ""


def _set_name(folder: Path, split: str, sets: Sequence[str], settings: DataSettings) -> str | None:
    """The folder's set for a split; None if there is none."""
    named = {"train": settings.train_set, "val": settings.val_set, "test": settings.test_set}[split]
    if named is not None:
        if named not in sets:
            known = ", ".join(sets) or "none"
            other = "; data.val_fraction sets some training images aside" if split == "val" else ""
            raise ValueError(f"{folder}: has no set '{named}' (data.{split}_set); its sets: {known}{other}")
        return named
    with_test = any(_begins(name, "test") for name in sets)
    if split == "val":
        # What trains is not what validates: trainval has the images of val.
        apart = with_test and not _begins(_set_name(folder, "train", sets, settings) or "", "trainval")
        return next((name for name in sets if _begins(name, "val")), None) if apart else None
    beginnings = {"test": ("test", "val"), "train": ("trainval", "train") if with_test else ("train",)}[split]
    for beginning in beginnings:
        found = [name for name in sets if _begins(name, beginning)]
        if beginning == "train":
            found = [name for name in found if not _begins(name, "trainval")] or found
        if len(found) > 1:
            raise ValueError(f"{folder}: has several sets {', '.join(found)}; choose one with data.{split}_set")
        if found:
            return found[0]
    others = [name for name in sets if not _begins(name, "test") and not _begins(name, "val")]
    if split == "train" and len(others) > 1:
        raise ValueError(f"{folder}: has sets {', '.join(sets)}; name the one to train on with data.train_set")
    return others[0] if split == "train" and others else None


def _begins(name: str, beginning: str) -> bool:
    return name.casefold().startswith(beginning)


def _draw(records: Records, fractions: Sequence[float], settings: DataSettings) -> list[Records]:
    parts = [records.take(part) for part in draw(records, fractions, seed=settings.split_seed)]
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(records) and sum(len(part) > 0 for part in parts) < wanted:
        raise ValueError(
            f"data.split, data.val_fraction: {len(records)} images cannot be shared out to {wanted} parts, since those "
            f"that are nearly the same stay together; add images, or leave the split out"
        )
    return parts


def _checked(folder: Path, settings: DataSettings, splits: Collection[str]) -> tuple[dict[str, Records], list[Problem]]:
    """The records, and warnings."""
    problems: list[Problem] = []
    found = read_annotations(folder, settings, problems.append, splits)
    problems += (problem for split in splits for problem in find_errors(found[split], settings))
    problems = list(dict.fromkeys(problems))
    lines = [str(problem) for problem in problems if problem.level == "error"]
    if lines:
        more = f"\n... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        advice = f"\n`frcnn check {folder}` shows everything; with --fix it writes a corrected copy"
        raise ValueError("\n".join(lines[:_SHOWN]) + more + advice)
    return found, problems


def find_errors(records: Sequence[Record], settings: DataSettings) -> Iterator[Problem]:
    """What would spoil training: unreadable images and impossible boxes."""
    for found in read_ahead(lambda record: errors_of(record, settings), iter(records), workers=READERS):
        yield from found


def errors_of(record: Record, settings: DataSettings) -> list[Problem]:
    """The errors of one image and its boxes."""
    try:
        height, width = verify_image(record.image)
    except (ValueError, OSError) as error:
        return [Problem("image cannot be read", record.image, str(error).removeprefix(f"{record.image}: "))]
    problems = []
    if settings.max_boxes is not None and len(record.boxes) > settings.max_boxes:
        rule = f"has {len(record.boxes)} boxes, data.max_boxes allows {settings.max_boxes}; raise it"
        problems.append(Problem("too many boxes", record.image, rule))
    for number, (box, name) in enumerate(zip(record.boxes, record.names, strict=True)):
        broken = _broken_rule(box, height, width)
        if broken is not None:
            kind, rule = broken
            place = object_place(number, name)
            problems.append(Problem(kind, record.image, f"{rule}; correct or remove the box", place, number))
    return problems


def _broken_rule(box: np.ndarray, height: int, width: int) -> tuple[str, str] | None:
    """The kind of problem, and the rule."""
    if not np.isfinite(box).all():
        return "box that is no number", f"box {_numbers(box)} has a coordinate that is not a finite number"
    x1, y1, x2, y2 = box.tolist()
    for axis, low, high in (("x", x1, x2), ("y", y1, y2)):
        if high <= low:
            kind = "box without area" if high == low else "box inside out"
            return kind, f"{axis}2 ({high:g}) must be greater than {axis}1 ({low:g})"
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        return "box out of the image", f"box {_numbers(box)} must lie inside the image ({width} x {height} pixels)"
    return None


def _numbers(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box.tolist()) + ")"


def _layouts() -> str:
    listed = "; or ".join(f"{name}: {form.LAYOUT}" for name, form in FORMATS.items())
    return f"known layouts: {listed}; --format NAME says why one does not fit{NOT_HERE}"
