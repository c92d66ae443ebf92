"""KITTI: label_2/NAME.txt for image_2/NAME.png, one object per line.

A line has 15 columns: class, truncated, occluded, alpha, the box as left, top, right, bottom in pixels, and 7 numbers
of a 3D box. Detections have their score as column 16. An empty file is an image without objects. Objects of the class
"DontCare" are ignored objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.data.formats.lines import read_lines, to_number, to_numbers
from frcnn.data.formats.source import ALL, Source, by_split, find_or_report, readable, split_of_image
from frcnn.data.problems import OnProblem, invalid_object
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "KITTI: label_2/NAME.txt with 15 columns per object, image_2/NAME.png"
SUFFIXES = frozenset({".txt"})
_COLUMNS = (15, 16)


def recognizes(file: Path, start: bytes) -> bool:
    lines = start.decode("utf-8", "replace").strip().splitlines()
    return bool(lines) and _is_object(lines[0].split())


def _is_object(parts: Sequence[str]) -> bool:
    """Whether a line is a class and 14 or 15 numbers."""
    is_class = len(parts) in _COLUMNS and to_number(parts[0]) is None
    return is_class and to_numbers(parts[1:]) is not None


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Empty files beside the recognized ones are annotations, too."""
    folders, recognized = {file.parent for file in files}, set(files)
    beside = [file for file in tree.with_suffix(".txt") if file.parent in folders]
    own = [file for file in beside if file in recognized or not tree.start(file).strip()]
    return by_split(own, lambda file: _split_of(file, tree))


def _split_of(file: Path, tree: Tree) -> str | None:
    return tree.split_of(file.parent) or split_of_image(_image_name(file, tree), file, tree)


def _image_name(file: Path, tree: Tree) -> str:
    """training/image_2/000001 for training/label_2/000001.txt: there may be images of two cameras."""
    folder = tree.relative(file).parent.as_posix()
    return f"{folder.replace('label', 'image')}/{file.stem}"


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their files."""
    split = None if source.split == ALL else source.split
    for file, text in readable(source.files, read_lines, on_problem, images=1):
        lines = [line.split() for line in text]
        find = partial(tree.find_image, _image_name(file, tree), file, split=split)
        image = find_or_report(find, file, on_problem, lost=(parts[0] for parts in lines if parts))
        if image is None:
            continue
        objects = []
        for number, parts in enumerate(lines, start=1):
            box = to_numbers(parts[4:8]) if _is_object(parts) else None
            if box is not None:
                objects.append((box, parts[0]))
            elif parts:
                message = f"'{' '.join(parts)}' must be a class and 14 numbers (detections: 15)"
                on_problem(invalid_object(file, message, f"line {number}", parts[0]))
        yield make_record(image, objects, ignore=[name == "DontCare" for _, name in objects])
