"""Writing a data set in another format."""

import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.dataset import read_annotations, unused_sets
from frcnn.data.formats import WRITABLE, map_files
from frcnn.data.images import image_size, read_bytes
from frcnn.data.problems import Problem
from frcnn.types import Record

WITH_DIFFICULT = frozenset({"pascal_voc", "coco", "csv"})
"""Formats that can mark an object as difficult."""


class Conversion(NamedTuple):
    """What was written."""

    images: dict[str, int]
    """Of each set."""
    objects: int
    notes: list[str]
    """What the new format cannot hold, or what is named otherwise there."""


def convert(
    folder: Path,
    out: Path,
    to: str,
    settings: DataSettings,
    *,
    link: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write the data set of a folder in another format, images included.

    Args:
        folder, settings: what is read, as training would read it; with `data.split`, the split is drawn and written.
        out: a new or empty folder; it is there whole, or not at all.
        to: a format that can be written.
        link: symbolic links to the images instead of copies.
        on_image: called with the images done and their total.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the data, or what the format cannot hold.
        FileExistsError: `out` holds something.
    """
    problems: list[Problem] = []
    sets = {name: records for name, records in read_annotations(folder, settings, problems.append).items() if records}
    if not sets:
        raise ValueError(f"{folder}: there are no images to write")
    errors = [str(problem) for problem in problems if problem.level == "error"]
    errors += [
        f"{record.image}: has a box whose numbers are not finite"
        for records in sets.values()
        for record in records
        if not np.isfinite(record.boxes).all()
    ]
    if errors:
        raise ValueError("\n".join(errors[:10]) + f"\n`frcnn check {folder}` shows everything")
    unused = unused_sets(folder, settings)
    notes = [f"not written: {', '.join(unused)}, since training would use {', '.join(sets)} only"] if unused else []
    notes += [str(problem) for problem in problems]
    done = write_dataset(sets, out, to, link=link, on_image=on_image)
    return done._replace(notes=[*notes, *done.notes])


def write_dataset(
    sets: Mapping[str, Sequence[Record]],
    out: Path,
    to: str,
    *,
    link: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write these sets as a data set; arguments and errors as `convert`."""
    if to not in WRITABLE:
        raise ValueError(f"--to {to}: cannot be written; choose one of {', '.join(WRITABLE)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: exists and is not overwritten; choose another folder, or delete it first")
    form = WRITABLE[to]
    unknown = [name for name in sets if to in ("folders", "map_files") and name not in ("train", "test")]
    if unknown:
        raise ValueError(f"--to {to}: has no place for the set '{unknown[0]}'; it knows train and test")
    classes = sorted({name for records in sets.values() for record in records for name in record.names})
    for name in classes:
        if name != name.strip() or _has_control_letters(name):
            raise ValueError(f"class {name!r}: spaces around a name and invisible letters cannot be written")

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".partial-{out.name}-", dir=out.parent))
    try:
        names = _Names()
        total = sum(map(len, sets.values()))
        written: dict[str, list[Record]] = {name: [] for name in sets}
        for name, records in sets.items():
            for record in records:
                place = partial / form.image_place(name, record) / names.of(record.image)
                place.parent.mkdir(parents=True, exist_ok=True)
                _put(record.image, place, link=link)
                written[name].append(record._replace(image=place, size=image_size(place)))
                on_image(sum(map(len, written.values())), total)
        try:
            form.write(partial, written, classes)
        except ValueError as error:
            raise ValueError(str(error).replace(str(partial), str(out))) from None
        if out.exists():
            out.rmdir()
        partial.chmod(0o755)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Conversion(
        {name: len(records) for name, records in sets.items()},
        sum(len(record.names) for records in sets.values() for record in records),
        [*names.notes, *_lost(sets, to)],
    )


def write_map_files(folder: Path, out: Path, settings: DataSettings) -> list[str]:
    """Write the tutorial's map files of a data set; its images stay where they are.

    Returns:
        What map files cannot hold.

    Raises:
        ValueError: what is wrong with the data.
    """
    problems: list[Problem] = []
    sets = read_annotations(folder, settings, problems.append)
    if problems:
        raise ValueError("\n".join(map(str, problems[:10])))
    classes = sorted({name for records in sets.values() for name in records.class_counts})
    map_files.write(out, {name: sets[name] for name in ("train", "test") if sets[name]}, classes)
    return _lost(sets, "map_files")


def _has_control_letters(name: str) -> bool:
    """Line ends and the like, which no format can hold."""
    return any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name)


class _Names:
    """File names of images that are the same in no two folders, even without their suffix and in small letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self.notes: list[str] = []

    def of(self, image: Path) -> str:
        stem = f"{image.parent.name}-{image.stem}" if image.stem.lower() in self._taken else image.stem
        number, free = 2, stem
        while free.lower() in self._taken:
            free, number = f"{stem}-{number}", number + 1
        if _has_control_letters(free):
            raise ValueError(f"{image}: invisible letters cannot be written; rename the file")
        if free != image.stem:
            self.notes.append(f"{image}: is {free}{image.suffix} there, since its name is taken")
        self._taken.add(free.lower())
        return free + image.suffix


def _put(image: Path, place: Path, *, link: bool) -> None:
    if link and image.is_file():
        place.symlink_to(image.resolve())
    elif image.is_file():
        shutil.copyfile(image, place)
    else:
        place.write_bytes(read_bytes(image))


def _lost(sets: Mapping[str, Sequence[Record]], to: str) -> list[str]:
    difficult = sum(int(record.difficult.sum()) for records in sets.values() for record in records)
    if to in WITH_DIFFICULT or not difficult:
        return []
    return [f"{difficult} objects marked as difficult are plain objects there, since {to} has no such mark"]
