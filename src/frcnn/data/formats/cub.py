"""CUB-200: text files that number the images: images.txt, bounding_boxes.txt, image_class_labels.txt, classes.txt.

A line of bounding_boxes.txt is `number x y width height` in pixels; an image can have several. The class is that of the
image. In train_test_split.txt, 1 is training, 0 is test; without it, there are no splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.data.formats.lines import read_lines, to_numbers
from frcnn.data.formats.shapes import Box, to_corners
from frcnn.data.formats.source import Source, by_image_split, find_or_report
from frcnn.data.problems import OnProblem, classes_without_names, invalid_object, no_classes
from frcnn.data.records import ONLY_CLASS, Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "CUB-200: images.txt, bounding_boxes.txt, image_class_labels.txt, classes.txt, train_test_split.txt"
SUFFIXES = frozenset({".txt"})
_BOXES, _IMAGES, _SPLITS = "bounding_boxes.txt", "images.txt", "train_test_split.txt"
_LABELS, _CLASSES = "image_class_labels.txt", "classes.txt"


def recognizes(file: Path, start: bytes) -> bool:
    return file.name == _BOXES and file.with_name(_IMAGES).is_file()


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return by_image_split(files, lambda file: sorted(set(_splits(file).values()), reverse=True))


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of images.txt. An image that has several numbers has the objects of all."""
    for file in source.files:
        paths, splits = _table(file.with_name(_IMAGES)), _splits(file)
        labels, names = _table(file.with_name(_LABELS)), _table(file.with_name(_CLASSES))
        if not labels:
            on_problem(no_classes(file))
        elif not names:
            on_problem(classes_without_names(file))
        own = [number for number in paths if not splits or splits.get(number) == source.split]
        objects: dict[str, list[tuple[Box, str]]] = {paths[number]: [] for number in own}
        for place, line in enumerate(read_lines(file), start=1):
            number, *cells = line.split() or [""]
            path = paths.get(number)
            if path is not None and path not in objects:
                continue  # of another split
            box, name = to_corners(to_numbers(cells, 4)), _name(number, labels, names)
            if path is not None and box is not None:
                objects[path].append((box, name))
            elif line.strip():
                message = f"'{line.strip()}' must be a number of {_IMAGES}, x, y, width and height"
                on_problem(invalid_object(file, message, f"line {place}", name))
        for path, each in objects.items():
            find = partial(tree.find_image, path, file)
            image = find_or_report(find, file, on_problem, f"image {path}", [name for _, name in each])
            if image is not None:
                yield make_record(image, each)


def _name(number: str, labels: dict[str, str], names: dict[str, str]) -> str:
    """The class of an image."""
    label = labels.get(number, ONLY_CLASS)
    return names.get(label, label)


def _splits(file: Path) -> dict[str, str]:
    """The split of each image, by its number."""
    marks = _table(file.with_name(_SPLITS))
    return {number: {"1": "train", "0": "test"}[mark] for number, mark in marks.items() if mark in ("0", "1")}


def _table(file: Path) -> dict[str, str]:
    """The first word of each line, and the rest; empty: there is no such file."""
    if not file.is_file():
        return {}
    return {number: rest for number, _, rest in (line.strip().partition(" ") for line in read_lines(file)) if number}
