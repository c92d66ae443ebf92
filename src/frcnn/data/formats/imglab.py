"""imglab, the labeling program of dlib: an XML file <dataset> of many images, e.g. training.xml and testing.xml.

An <image> has the path of its file, and boxes with left, top, width and height in pixels. A box without <label> is of
the class "object". Boxes that dlib ignores become ignored objects. The split is in the name of the
file, else in the name of the image's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

from frcnn.data.formats.lines import to_numbers, to_size
from frcnn.data.formats.source import Source, by_image_split, image_splits
from frcnn.data.formats.xml_files import read_xml, root_tag
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    invalid_object,
    missing_image,
    object_place,
    unreadable_annotation,
)
from frcnn.data.records import ONLY_CLASS, Record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "imglab of dlib: training.xml with <image file='NAME.jpg'>"
SUFFIXES = frozenset({".xml"})
ROOT = "dataset"


def recognizes(file: Path, start: bytes) -> bool:
    return root_tag(start) == ROOT and b"<images" in start


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    def splits_of(file: Path) -> list[str]:
        try:
            return list(_splits(read_xml(file, ROOT), file, tree).values())
        except ValueError:
            return list(filter(None, [tree.split_of(file)]))  # `read` says why

    return by_image_split(files, splits_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their files."""
    for file in source.files:
        try:
            root = read_xml(file, ROOT)
        except ValueError as error:
            on_problem(unreadable_annotation(file, error))
            continue
        splits = _splits(root, file, tree)
        for number, image in enumerate(root.iterfind("images/image"), start=1):
            name = image.get("file", "")
            if splits[name] == source.split:
                yield from _record(image, file, f"image {name or number}", source.split, tree, on_problem)


def _splits(root: ElementTree.Element, file: Path, tree: Tree) -> dict[str, str]:
    return image_splits([image.get("file", "") for image in root.iterfind("images/image")], file, tree)


def _record(
    image: ElementTree.Element, file: Path, place: str, split: str, tree: Tree, on_problem: OnProblem
) -> Iterator[Record]:
    elements = image.findall("box")
    names = [(element.findtext("label") or "").strip() or ONLY_CLASS for element in elements]
    try:
        path = tree.find_image(image.get("file", ""), file, split=split)
    except ImageNotFoundError as error:
        on_problem(missing_image(file, error, place, names))
        return
    found: list[tuple[tuple[float, float, float, float], str, bool]] = []
    for index, (element, name) in enumerate(zip(elements, names, strict=True)):
        numbers = to_numbers([element.get(side, "") for side in ("left", "top", "width", "height")], 4)
        if numbers is None:
            message = "its left, top, width and height must be numbers"
            on_problem(invalid_object(file, message, f"{place}, {object_place(index, name)}", name))
            continue
        left, top, width, height = numbers
        found.append(((left, top, left + width, top + height), name, element.get("ignore") == "1"))
    yield Record(
        path,
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        tuple(name for _, name, _ in found),
        np.array([ignore for *_, ignore in found], bool),
        to_size(image.get("height", ""), image.get("width", "")),
    )
