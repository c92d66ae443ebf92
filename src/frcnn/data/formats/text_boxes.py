"""Other text files, one for each image, with a line for each object. The form of the lines tells the format.

The formats are DOTA (four corners, class, difficult), VisDrone, NWPU VHR-10, PASCAL's first annotations (INRIA
persons, Penn-Fudan pedestrians), Piotr Dollar's toolbox (ExDark, Caltech pedestrians), BBox-Label-Tool (the number of
objects, then corners), WiderPerson (the class before them), and corners before the name of a class. The upright box
around a rotated box is taken. A line of text in an image (ICDAR) is an object of the class "text".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frcnn.data.formats.lines import is_count, read_lines, to_numbers
from frcnn.data.formats.names_files import are_numbers, class_name, names_in
from frcnn.data.formats.source import ALL, Source, by_split, readable
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    classes_without_names,
    invalid_object,
    missing_image,
    most_telling,
    unreadable_annotation,
)
from frcnn.data.records import ONLY_CLASS, Annotation, Record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = (
    "other text: NAME.txt for each image, e.g. with four corners and a class per line (DOTA), or VisDrone's columns"
)
SUFFIXES = frozenset({".txt"})
_NUMBER = r"\s*(-?\d+(?:\.\d*)?)\s*"
_SEPARATOR = r"[\s,]"
_NUMBERS = {count: _SEPARATOR.join([_NUMBER] * count) for count in (4, 8)}
_KINDS = {
    "corners": re.compile(rf"{_NUMBERS[8]}{_SEPARATOR}\s*(?P<name>[^\s,].*?)(?:{_SEPARATOR}\s*(?P<ignore>[012]))?\s*"),
    "visdrone": re.compile(rf"{','.join([_NUMBER] * 4)},(?P<use>[01]),(?P<name>1?\d),(?P<ignore>-?\d),-?\d,?\s*"),
    "nwpu": re.compile(rf"\s*\({_NUMBER},{_NUMBER}\)\s*,\s*\({_NUMBER},{_NUMBER}\)\s*,\s*(?P<name>\d+)\s*"),
    "pascal": re.compile(
        rf'Bounding box for object \d+ "(?P<name>[^"]*)".*:\s*\({_NUMBER},{_NUMBER}\)\s*-\s*\({_NUMBER},{_NUMBER}\)\s*'
    ),
    "toolbox": re.compile(
        rf"(?P<name>[^\W\d].*?)\s{' '.join([_NUMBER] * 4)}\s(?P<ignore>[01])(\s+-?\d+(\.\d+)?){{6}}\s*"
    ),
    "class first": re.compile(rf"\s*(?P<name>\d+)\s*{_SEPARATOR}{_NUMBERS[4]}"),
    "counted": re.compile(rf"{_NUMBERS[4]}(?:{_SEPARATOR}\s*(?P<name>\S.*?))?\s*"),
    "named": re.compile(rf"{_NUMBERS[4]}{_SEPARATOR}\s*\"?(?P<name>[^\W\d][^\",]*?)\"?\s*"),
}
"""The lines of an object, by the kind of file, most special first. All but those of VisDrone and the toolbox are
corners."""
_IS_NO_OBJECT = re.compile(r"\s*(#.*|%.*|//.*|imagesource:.*|gsd:.*|\d+)?\s*")
_COUNTED = frozenset({"class first", "counted"})
"""The first line is the number of objects."""
_ARE_SIDES = frozenset({"visdrone", "toolbox"})
"""Boxes are x, y, width, height."""
VISDRONE = (
    *("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle"),
    *("bus", "motor", "others"),
)
_TEXT = "text"
_ENOUGH = 20  # objects that tell whether the last column is a class
_NUMERIC = re.compile(r"[-\d.,\s]+")
_WHOLE = 4000  # bytes: the last line of a longer start may be cut


def recognizes(file: Path, start: bytes) -> bool:
    lines = start.decode("utf-8", "replace").splitlines()
    is_cut = len(start) > _WHOLE
    return _kind(lines[:-1] if is_cut else lines, is_cut=is_cut) is not None


def _kind(lines: Sequence[str], *, is_cut: bool = False) -> str | None:
    """The kind of a file with these lines; None: it is something else.

    Args:
        is_cut: whether there are more.
    """
    if any(line.startswith(("# PASCAL Annotation", "Bounding box for object")) for line in lines[:20]):
        return "pascal"
    objects = [line for line in lines if not _IS_NO_OBJECT.fullmatch(line)]
    if not objects:
        return None
    for kind, pattern in _KINDS.items():
        first = lines[0].strip()
        if kind in _COUNTED and not (is_count(first) and (is_cut or int(first) == len(objects))):
            continue
        if kind == "class first" and not _is_class_first(objects):
            continue
        matches = [pattern.fullmatch(line) for line in objects]
        names = [match["name"] for match in matches if match]
        if len(names) == len(objects) and not (kind == "corners" and all(map(_NUMERIC.fullmatch, names))):
            return kind  # four corners and a number are YOLO's
    return None


def _is_class_first(lines: Sequence[str]) -> bool:
    """Whether lines of five numbers are the number of a class, then corners; not corners, then the class: only so they
    are ordered corners, or the numbers of classes are smaller so."""
    rows = [to_numbers(re.split(r"[\s,]+", line.strip()), 5) for line in lines]
    numbers = np.array([row for row in rows if row is not None]).reshape(-1, 5)
    if len(numbers) < len(lines) or not (numbers[:, 3:] > numbers[:, 1:3]).all():
        return False
    return not (numbers[:, 2:4] > numbers[:, :2]).all() or bool(numbers[:, 0].max() < numbers[:, 4].max())


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Other files beside the recognized ones are annotations, too, if they have no object, or an image of their name. A
    folder whose files have no images is something else."""
    folders = {file.parent for file in files}
    beside = [file for file in tree.with_suffix(".txt") if file.parent in folders]
    have_image = {file for file in beside if isinstance(_image(file, tree), Path)}
    folders, annotations = {file.parent for file in have_image}, have_image | set(files)
    own = [
        file for file in beside if file.parent in folders and (file in annotations or _has_no_object(tree.start(file)))
    ]
    return by_split(own, lambda file: _split_of(file, tree))


def _has_no_object(start: bytes) -> bool:
    return all(map(_IS_NO_OBJECT.fullmatch, start.decode("utf-8", "replace").splitlines()))


def _split_of(file: Path, tree: Tree) -> str | None:
    image = _image(file, tree)
    return tree.split_of(file.parent) or (tree.split_of(image.parent) if isinstance(image, Path) else None)


def _image(file: Path, tree: Tree, split: str | None = None) -> Path | ImageNotFoundError:
    """The image with the name of a file, which may begin with "gt_"; or why there is none."""
    errors = []
    for name in dict.fromkeys((file.stem, file.stem.removeprefix("gt_"))):
        try:
            return tree.find_image(name, file, split=split)
        except ImageNotFoundError as error:
            errors.append(error)
    return most_telling(errors)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their files. All files are of one kind, that of most."""
    names = names_in(tree)
    split = None if source.split == ALL else source.split
    contents = dict(readable(source.files, read_lines, on_problem, images=1))
    kinds = Counter(kind for kind in map(_kind, contents.values()) if kind is not None)
    kind = kinds.most_common(1)[0][0] if kinds else "named"  # there are no objects
    are_texts = _are_texts(kind, contents.values())
    if are_texts:
        message = (
            f"most lines end with different words, as for text in images, so every object is of the class '{_TEXT}'"
        )
        on_problem(Problem(ProblemKind.NO_CLASSES, source.files[0], message, level="warning"))
    classes: set[str] = set()
    for file, lines in contents.items():
        objects: list[Annotation] = []
        bad: list[tuple[str, str]] = []
        for number, line in enumerate(lines, start=1):
            match = _KINDS[kind].fullmatch(line)
            if match is not None:
                one = _object(kind, match)
                objects.append(one._replace(name=_TEXT if are_texts else class_name(one.name, names)))
            elif kind != "pascal" and not _IS_NO_OBJECT.fullmatch(line):
                bad.append((f"line {number}", f"'{line.strip()}' is not a box as in the other lines"))
        if bad and not objects:
            on_problem(unreadable_annotation(file, f"{bad[0][1]} and files"))
            continue
        for place, message in bad:
            on_problem(invalid_object(file, message, place))
        image = _image(file, tree, split)
        if isinstance(image, ImageNotFoundError):
            on_problem(missing_image(file, image, lost=[one.name for one in objects]))
            continue
        boxes = np.array([one.box for one in objects], np.float32).reshape(-1, 4)
        ignore = np.array([one.ignore for one in objects], bool)
        yield Record(image, boxes, tuple(one.name for one in objects), ignore)
        classes.update(one.name for one in objects)
    if not names and are_numbers(classes):
        on_problem(classes_without_names(source.files[0]))


def _object(kind: str, match: re.Match[str]) -> Annotation:
    named = match.groupdict()
    first = 1 if kind in ("toolbox", "pascal", "class first") else 0  # behind the name
    numbers = [float(value) for value in match.groups()[first : first + (8 if kind == "corners" else 4)]]
    xs, ys = numbers[::2], numbers[1::2]
    if kind in _ARE_SIDES:
        xs[1], ys[1] = xs[0] + xs[1], ys[0] + ys[1]
    box = (min(xs), min(ys), max(xs), max(ys)) if kind == "corners" else (xs[0], ys[0], xs[1], ys[1])
    name, ignore = named.get("name") or ONLY_CLASS, named.get("ignore") == "1"
    if kind == "visdrone":
        ignore = named["use"] == "0" or name in ("0", "11")
        name = VISDRONE[int(name)] if is_count(name) and int(name) < len(VISDRONE) else name
    return Annotation(box, name, ignore)


def _are_texts(kind: str, contents: Iterable[Sequence[str]]) -> bool:
    """Whether the last column has the words in the image, because most are different."""
    if kind not in ("corners", "named"):
        return False
    matches = (_KINDS[kind].fullmatch(line) for lines in contents for line in lines)
    names = [match["name"] for match in matches if match]
    return len(names) >= _ENOUGH and len(set(names)) > len(names) / 2
