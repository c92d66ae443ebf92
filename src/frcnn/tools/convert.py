"""Write a data set in another format."""

import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frcnn.config import DataSettings, make_config, with_arguments
from frcnn.data.dataset import SPLITS, Dataset, left_aside, renamed_splits
from frcnn.data.formats import WRITABLE, map_files
from frcnn.data.images import image_size, read_bytes
from frcnn.data.problems import object_place
from frcnn.data.records import Record, keep_objects
from frcnn.data.tree import images_outside
from frcnn.files import as_path, atomic_dir
from frcnn.messages import listed, one_line, plural

WITH_IGNORE = frozenset({"pascal_voc", "coco", "csv"})
"""Formats that can mark an object as ignored."""


class Conversion(NamedTuple):
    """The result of `convert`."""

    images: dict[str, int]
    """Number of images in each split."""
    objects: int
    notes: list[str]
    """What was left out or renamed."""


def convert(
    data: str | Path,
    out: str | Path,
    to: str = "coco",
    *,
    split: Sequence[float] | None = None,
    format: str | None = None,
    link: bool = False,
    follow_links: bool = False,
    settings: Mapping[str, Any] | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write a data set, with its images, in another format.

    Args:
        data: folder of images and boxes; it is read and repaired as training does.
        out: a new or empty folder; it is written whole or not at all.
        to: the new format: "folders", "map_files", "pascal_voc", "coco", "yolo" or "csv".
        split: fractions for train, val and test, e.g. (0.8, 0.1, 0.1), if the folder has no splits.
        format: of `data`, e.g. "yolo"; None: auto-detected.
        link: make symbolic links to the images instead of copies.
        follow_links: also write images outside of `data` that an annotation or a link points to; they may be private.
        settings: other settings by name, e.g. {"data.split_seed": 1}.
        on_image: called with the number of images that are done, and with their total.

    Raises:
        ValueError, FileNotFoundError: the data cannot be read, see `open_dataset`; or the new format cannot hold
            something; or an image is outside of `data`, without `follow_links`.
        FileExistsError: `out` is a file, or a folder that is not empty.
    """
    overrides = with_arguments(settings, {"data.split": split, "data.format": format})
    rules = make_config(overrides=overrides).data
    return convert_dataset(
        as_path(data, "data"), as_path(out, "out"), to, rules, link=link, follow_links=follow_links, on_image=on_image
    )


def convert_dataset(
    folder: Path,
    out: Path,
    to: str,
    settings: DataSettings,
    *,
    link: bool = False,
    follow_links: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """`convert`, with all settings of the data."""
    dataset = Dataset(folder, settings)
    dataset.verify()
    splits = {split: dataset.records(split) for split in SPLITS if dataset.records(split)}
    if not splits:
        raise ValueError(f"{folder}: there are no images to write")
    if not follow_links:
        require_inside(dataset.discovery.tree.root, splits)
    renames = renamed_splits(dataset.discovery, settings)
    notes = [f"not used: {note}" for note in left_aside(dataset.discovery, settings)]
    notes += [f"the split '{name}' is written as {split}" for split, name in renames.items() if split in splits]
    notes += [str(problem) for problem in dataset.problems]
    done = write_dataset(splits, out, to, link=link, on_image=on_image)
    return done._replace(notes=[*notes, *done.notes])


def require_inside(folder: Path, splits: Mapping[str, Sequence[Record]]) -> None:
    """Refuse to copy images from elsewhere on the disk. Whoever made the data set may have named any file there.

    Raises:
        ValueError: an image is outside of the folder.
    """
    found = images_outside(folder, (record.image for records in splits.values() for record in records))
    if found:
        shown = one_line(listed(found, 3))
        where = plural(len(found), "image is", "images are")
        raise ValueError(
            f"{folder}: {where} outside of this folder, because an annotation or a link points there: {shown}; "
            f"--follow-links (follow_links=True) includes them"
        )


def write_dataset(
    splits: Mapping[str, Sequence[Record]],
    out: Path,
    to: str,
    *,
    link: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write these splits as a data set; arguments and errors as `convert`."""
    if to not in WRITABLE:
        raise ValueError(f"to {to}: frcnn cannot write this format; choose one of {', '.join(WRITABLE)}")
    form = WRITABLE[to]
    unknown = [split for split in splits if to in ("folders", "map_files") and split not in ("train", "test")]
    if unknown:
        raise ValueError(f"to {to}: this format has no split '{unknown[0]}'; it has train and test")
    classes = sorted({name for records in splits.values() for record in records for name in record.class_names})
    for name in classes:
        if name != name.strip() or _has_control_characters(name):
            raise ValueError(
                f"class {name!r}: a name with spaces around it or control characters cannot be written; rename it"
            )

    names, notes = _FileNames(), list[str]()
    total = sum(map(len, splits.values()))
    written: dict[str, list[Record]] = {split: [] for split in splits}
    with atomic_dir(out) as partial:
        for split, records in splits.items():
            for record in records:
                image = partial / form.image_dir(split, record) / names.of(record.image)
                image.parent.mkdir(parents=True, exist_ok=True)
                _put(record.image, image, link=link)
                kept, small = _without_small_boxes(record, to)
                notes += small
                written[split].append(kept._replace(image=image, size=image_size(image)))
                on_image(sum(map(len, written.values())), total)
        try:
            form.write(partial, written, classes)
        except ValueError as error:
            raise ValueError(str(error).replace(str(partial), str(out))) from None
    return Conversion(
        {split: len(records) for split, records in splits.items()},
        sum(len(record.class_names) for records in written.values() for record in records),
        [*names.notes, *notes, *_lost(splits, to)],
    )


def write_map_files(folder: Path, out: Path, settings: DataSettings) -> list[str]:
    """Write map files (see CNTK's tutorial) for a data set. They point to its images, which stay in their folder.

    Returns:
        Notes on what map files cannot hold.

    Raises:
        ValueError: an annotation is wrong.
    """
    dataset = Dataset(folder, settings)
    dataset.verify()
    splits = {split: dataset.records(split) for split in SPLITS}
    classes = sorted({name for records in splits.values() for name in records.class_counts})
    map_files.write(out, {split: splits[split] for split in ("train", "test") if splits[split]}, classes)
    return _lost(splits, "map_files")


def _without_small_boxes(record: Record, to: str) -> tuple[Record, list[str]]:
    """The record without boxes that Pascal VOC cannot hold, and what is left out: it counts a box from its first to its
    last pixel, so a box of one pixel looks like one without area."""
    sides = (record.boxes[:, 2:] - record.boxes[:, :2]).min(axis=1) if len(record.boxes) else np.zeros(0)
    keep = sides > 1
    if to != "pascal_voc" or keep.all():
        return record, []
    notes = [
        f"{record.image}, {object_place(index, record.class_names[index])}: is left out, because it is only "
        f"{sides[index]:g} pixels wide or high; Pascal VOC needs more than one"
        for index in np.flatnonzero(~keep).tolist()
    ]
    return keep_objects(record, keep), notes


def _has_control_characters(name: str) -> bool:
    """Whether a name has line ends and the like, which no format can hold."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)


class _FileNames:
    """Unique file names for images of several folders: unique without suffix, and in lower case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self.notes: list[str] = []

    def of(self, image: Path) -> str:
        stem = f"{image.parent.name}-{image.stem}" if image.stem.lower() in self._taken else image.stem
        number, free = 2, stem
        while free.lower() in self._taken:
            free, number = f"{stem}-{number}", number + 1
        if _has_control_characters(free):
            raise ValueError(f"{one_line(image)}: control characters in a file name cannot be written; rename the file")
        if free != image.stem:
            self.notes.append(
                f"{one_line(image)}: is written as {free}{image.suffix}, because another image has its name"
            )
        self._taken.add(free.lower())
        return free + image.suffix


def _put(image: Path, target: Path, *, link: bool) -> None:
    if link and image.is_file():
        target.symlink_to(image.resolve())
    elif image.is_file():
        shutil.copyfile(image, target)
    else:
        target.write_bytes(read_bytes(image))


def _lost(splits: Mapping[str, Sequence[Record]], to: str) -> list[str]:
    ignored = sum(int(record.ignore.sum()) for records in splits.values() for record in records)
    if to in WITH_IGNORE or not ignored:
        return []
    return [f"{ignored} ignored objects become plain objects, because {to} cannot mark them"]
