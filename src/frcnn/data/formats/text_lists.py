"""Lists of images with their boxes: a line for each image, as keras-yolo3 and OpenCV write it, or WIDER FACE's lists.

The forms of a line are `path x1,y1,x2,y2,class x1,y1,x2,y2,class ...`, the same with spaces only, `number path width
height class x1 y1 x2 y2 ...`, and `path count x y width height ...`. WIDER FACE has the path, the count and each box on
separate lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frcnn.data.formats.four_numbers import are_corners, read_as_corners
from frcnn.data.formats.lines import is_count, read_lines, to_numbers, while_unchanged
from frcnn.data.formats.names_files import are_numbers, class_name, names_in
from frcnn.data.formats.source import Source, by_image_split, image_splits
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import ImageNotFoundError, OnProblem, classes_without_names, invalid_object, missing_image
from frcnn.data.records import ONLY_CLASS, Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "list of images: train.txt with lines `path x1,y1,x2,y2,class ...` (keras-yolo3)"
SUFFIXES = frozenset({".txt", ".dat", ".lst", ".info"})
_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_LINE = re.compile(rf"(?:\d+\s+)?(?P<path>\S.*?(?:{_SUFFIX}))(?:[\s,]+(?P<rest>.*))?", re.IGNORECASE)
_GROUPS = re.compile(r"(\S+,){4,}\S+(\s+(\S+,){4,}\S+)*")
_SPACED = re.compile(rf"(?:{_SUFFIX})( +|\t(?=.*,))[^\s,]", re.IGNORECASE)
_WHOLE = 4000  # bytes: the last line of a longer start may be cut


class _Line(NamedTuple):
    path: str
    objects: list[tuple[list[float], str]]
    bad: list[str]
    """The objects that cannot be read."""
    place: str


def recognizes(file: Path, start: bytes) -> bool:
    """Most lines have a path and boxes, with a space between them; else it is CSV."""
    lines = start.decode("utf-8", "replace").splitlines()[: -1 if len(start) > _WHOLE else None]
    parsed = list(_parsed(lines))
    good = [line for line in parsed if not line.bad]
    rests = [match["rest"] for match in map(_LINE.fullmatch, map(str.strip, lines)) if match]
    is_spaced = any(map(_SPACED.search, lines)) or not any(rests)  # the latter: WIDER FACE's
    return is_spaced and any(line.objects for line in good) and len(good) >= 0.8 * len(parsed)


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return by_image_split(files, lambda file: image_splits((line.path for line in _lines(file)), file, tree).values())


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their lines. Boxes of several lines for one image are joined."""
    names = names_in(tree)
    objects: dict[Path, list[tuple[list[float], str]]] = {}
    numbers: list[tuple[Path, list[float]]] = []
    for file in source.files:
        splits = image_splits((line.path for line in _lines(file)), file, tree)
        for line in _lines(file):
            if splits[line.path] != source.split:
                continue
            own = [(box, class_name(label, names)) for box, label in line.objects]
            for bad in line.bad:
                on_problem(invalid_object(file, f"'{bad}' must be four numbers and a class", line.place))
            try:
                image = tree.find_image(line.path, file, split=source.split)
            except ImageNotFoundError as error:
                on_problem(missing_image(file, error, line.place, lost=[name or ONLY_CLASS for _, name in own]))
                continue
            objects.setdefault(image, []).extend(own)
            numbers += [(image, box) for box, name in own if not name]
    have_corners = are_corners(numbers)
    if have_corners:
        on_problem(read_as_corners(source.files[0]))
    if not names and are_numbers(name for own in objects.values() for _, name in own):
        on_problem(classes_without_names(source.files[0]))
    for image, own in objects.items():
        corners = [box if name or have_corners else _to_corners(box) for box, name in own]
        yield make_record(image, zip(corners, (name or ONLY_CLASS for _, name in own), strict=True))


@while_unchanged
def _lines(file: Path) -> list[_Line]:
    return list(_parsed(read_lines(file)))


def _parsed(lines: Sequence[str]) -> Iterator[_Line]:
    """The images of a list."""
    waiting: _Line | None = None  # an image of WIDER FACE
    count = _numbers_per_box(lines)
    for number, text in enumerate(lines, start=1):
        match = _LINE.fullmatch(text.strip())
        if match is not None:
            if waiting is not None:
                yield waiting
            waiting = _Line(match["path"], [], [], f"line {number}")
            if match["rest"]:
                objects, bad = _objects(match["rest"], count)
                yield waiting._replace(objects=objects, bad=bad)
                waiting = None
        elif waiting is not None and text.strip():
            numbers = to_numbers(text.split()[:4], 4)
            if numbers is not None:
                if any(numbers):  # else WIDER FACE's mark of an image without faces
                    waiting.objects.append((_to_corners(numbers), ONLY_CLASS))
            elif not text.strip().isdecimal():
                waiting.bad.append(text.strip())
        elif text.strip():
            yield _Line("", [], [text.strip()], f"line {number}")
    if waiting is not None:
        yield waiting


def _numbers_per_box(lines: Sequence[str]) -> int:
    """The cells of each box, if each path is followed by the number of its boxes: 4 (OpenCV), or 5 with a class; else
    0."""
    rests = [match["rest"].split() for match in map(_LINE.fullmatch, map(str.strip, lines)) if match and match["rest"]]
    if not rests or not all(is_count(cells[0]) for cells in rests):
        return 0
    return next((count for count in (4, 5) if all(len(c) == count * int(c[0]) + 1 for c in rests)), 0)


def _objects(rest: str, count: int) -> tuple[list[tuple[list[float], str]], list[str]]:
    """The boxes after a path, and those that cannot be read. A box without a class may be x, y, width, height.

    Args:
        count: see `_numbers_per_box`. Such boxes are x, y, width, height.
    """
    if _GROUPS.fullmatch(rest):
        groups = [group.split(",") for group in rest.split()]
    else:
        cells = rest.replace(",", " ").split()
        if count:
            groups = [cells[at : at + count] for at in range(1, len(cells), count)]
        elif len(cells) % 5 == 2:  # width, height, then class and corners
            groups = [[*cells[at + 1 : at + 5], cells[at]] for at in range(2, len(cells), 5)]
        else:
            groups = [cells[at : at + 5] for at in range(0, len(cells), 5)]
    objects, bad = [], []
    for group in groups:
        box = to_numbers(group[:4], 4)
        if box is None or len(group) < 4:
            bad.append(",".join(group))
        else:
            name = " ".join(group[4:5])
            objects.append((_to_corners(box), name or ONLY_CLASS) if count else (box, name))
    return objects, bad


def _to_corners(box: Sequence[float]) -> list[float]:
    """The corners of x, y, width, height."""
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
