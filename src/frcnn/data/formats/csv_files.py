"""CSV: a line for each box, with its image, its class and its corners; the first line names the columns.

The columns can have any order and any of many common names. Without a first line of names, they are those of RetinaNet,
SKU110K, makesense.ai or Google AutoML. A line without a box is of an image without objects. A column `split` gives the
split of a line; without it, the name of the file or of its folder does, else the folder of each image.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frcnn.data.formats.csv_columns import (
    EMPTY,
    ONE_CELL,
    PLAIN,
    Columns,
    class_cell,
    columns_in,
)
from frcnn.data.formats.four_numbers import are_corners, are_fractions, read_as_corners
from frcnn.data.formats.lines import csv_rows, plain, read_text, to_size, while_unchanged
from frcnn.data.formats.source import ALL, Source, by_image_split, image_splits, readable
from frcnn.data.images import image_size
from frcnn.data.problems import ImageNotFoundError, OnProblem, Problem, ProblemKind, invalid_object, missing_image
from frcnn.data.records import ONLY_CLASS, Annotation, Record, keep_objects
from frcnn.data.tree import Tree
from frcnn.files import atomic_write, relative_path
from frcnn.json_text import load_json
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "CSV: *.csv with path,x1,y1,x2,y2,label"
SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_DESCRIPTION = re.compile(rb'^"?/\w/\w+"?,', re.MULTILINE)


class _Row(NamedTuple):
    number: int
    """Of its last line in the file."""
    cells: list[str]
    """The line as it is in the file."""


class _Image(NamedTuple):
    boxes: list[tuple[float, float, float, float]]
    """Corners, as the file says them."""
    names: list[str]
    ignore: list[bool]
    size: tuple[int, int] | None
    place: str
    """Its first line."""


def recognizes(file: Path, start: bytes) -> bool:
    return columns_in(start) is not None


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return _sources(tree, files)


def _sources(tree: Tree, files: Sequence[Path]) -> list[Source]:
    """A file can have images of several splits. Files that lack a column are skipped, unless there is no other."""

    def splits_of(file: Path) -> list[str]:
        try:
            return list(_splits(file, tree).values())
        except ValueError:
            return list(filter(None, [tree.split_of(file)]))  # `read` says why

    return by_image_split([file for file in files if _columns(file).form or _columns(file).fitting] or files, splits_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their first lines."""
    images: dict[Path, Record] = {}
    first_files: dict[Path, Path] = {}

    def read_file(file: Path) -> list[Record]:
        return list(_records(file, source.split, tree, on_problem))

    for file, records in readable(source.files, read_file, on_problem, images=0):
        own: dict[Path, Record] = {}
        for record in records:
            own[record.image] = _joined(own[record.image], record) if record.image in own else record
        copies: list[Path] = []
        for image, record in own.items():
            new = _new(record, images[image]) if image in images else record
            copies += [first_files.setdefault(image, file)] * (len(record.class_names) - len(new.class_names))
            images[image] = _joined(images[image], new) if image in images else record
        if copies:
            lines = plural(len(copies), "line is", "lines are")
            message = f"{lines} also in {copies[0]}, and used once; remove one of the files if it is a copy"
            on_problem(Problem(ProblemKind.ANNOTATED_TWICE, file, message, level="warning"))
    yield from images.values()


def image_dir(split: str, record: Record) -> str:
    """The folder for an image of a split, relative to the data folder."""
    return "images"


def write(folder: Path, splits: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    for split, records in splits.items():
        with (
            atomic_write(folder / f"{split}.csv") as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow((*PLAIN, "ignore"))
            for record in records:
                path = record.image.relative_to(folder).as_posix()
                for box, label, ignore in zip(record.boxes, record.class_names, record.ignore, strict=True):
                    writer.writerow((path, *map(plain, box.tolist()), class_cell(label), int(ignore)))
                if not record.class_names:
                    writer.writerow((path, "", "", "", "", "", ""))


def images(source: Source, tree: Tree) -> Iterator[Path]:
    """The images of a split. Images that no file names become part of the training split."""
    files = [file for file in tree.with_suffix(*sorted(SUFFIXES)) if recognizes(file, tree.start(file))]
    groups = _sources(tree, files)
    splits = {image: split for file in files for image, split in _images_of(file, tree).items()}
    yield from (image for image, split in splits.items() if split == source.split)
    if source.split == next((group.split for group in groups if group.split.startswith("train")), groups[0].split):
        yield from (image for image in tree.images if image not in splits)


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    return list(dict.fromkeys(_descriptions(tree).values()))


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    file = _file_of(source, image, tree)
    rows = _rows_by_image(file, tree).get(image)
    if rows is None:
        return None
    columns, scale, descriptions = _complete(file, tree), _scale(file, image, tree), _descriptions(tree)
    parsed = ((columns.object(columns.values(row.cells), scale), row.cells) for row in rows)
    return [
        each._replace(name=descriptions.get(each.name, each.name), source=json.dumps(cells))
        for each, cells in parsed
        if isinstance(each, Annotation)
    ]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """Lines that cannot be read are kept, after the other objects of their image."""
    file = _file_of(source, image, tree)
    columns, scale = _complete(file, tree), _scale(file, image, tree)
    if "ignore" not in columns.names and any(annotation.ignore for annotation in objects or ()):
        raise ValueError(f"{file}: has no column 'ignore'; add one to its first line, or do not ignore the object")
    own = _rows_by_image(file, tree).get(image, [])
    common = {"path": relative_path(image, file.parent), "split": source.split}
    if own:
        common |= {name: value for name, value in columns.values(own[0].cells).items() if name in common}
    new: list[list[str]] = []
    ids = {name: number for number, name in _descriptions(tree).items()}
    for annotation in objects or ():
        cells = load_json(annotation.source) if annotation.source else [""] * len(columns.names)
        values = {"label": ids.get(annotation.name, class_cell(annotation.name)), "ignore": str(int(annotation.ignore))}
        old = columns.object(columns.values(cells), scale) if annotation.source else None
        if not isinstance(old, Annotation):
            values |= common
        elif old.ignore == annotation.ignore:
            del values["ignore"]
        if not isinstance(old, Annotation) or old.box != annotation.box:
            values |= columns.cells(annotation.box, scale)
        names = [*columns.names, *[None] * (len(cells) - len(columns.names))]  # a line may have more than the first
        new.append([values.get(ours or "", cell) for ours, cell in zip(names, cells, strict=True)])
    if objects is not None:
        new += [row.cells for row in own if isinstance(columns.object(columns.values(row.cells), scale), str)]
        new = new or [[common.get(ours or "", "") for ours in columns.names]]
    numbers = {row.number for row in own}
    encoding, line_end = _style(file)
    with atomic_write(file) as partial, partial.open("w", encoding=encoding, newline="") as out:
        writer = csv.writer(out, delimiter=columns.separator, lineterminator=line_end)
        rows = list(csv_rows(file, read_text(file), columns.separator))
        place = next((at for at, (number, _) in enumerate(rows) if number in numbers), len(rows))
        kept = [(at, cells) for at, (number, cells) in enumerate(rows) if number not in numbers]
        writer.writerows(cells for at, cells in kept if at < place)
        writer.writerows(new)
        writer.writerows(cells for at, cells in kept if at > place)


def _records(file: Path, split: str, tree: Tree, on_problem: OnProblem) -> Iterator[Record]:
    """The images of one file that belong to a split."""
    columns, splits, descriptions = _complete(file, tree), _splits(file, tree), _descriptions(tree)
    if "label" not in columns.names:
        message = (
            f"no column of {', '.join(columns.head)} has the class, so every object is of the class '{ONLY_CLASS}'; "
            f"if one has it, name it label"
        )
        on_problem(Problem(ProblemKind.NO_CLASSES, file, message, level="warning"))
    if columns.cell_has_corners:
        on_problem(read_as_corners(file))
    images: dict[str, _Image] = {}
    for number, cells in _rows(file, columns):
        values, place = columns.values(cells), f"line {number}"
        path = values["path"]
        if splits[path] != split:
            continue
        if not path:
            lost = [_class_of(values, descriptions)]
            on_problem(missing_image(file, "names no image", place, lost)._replace(images=0))
            continue
        if path not in images:
            images[path] = _Image([], [], [], to_size(values.get("height", ""), values.get("width", "")), place)
        parsed = columns.object(values)
        if isinstance(parsed, str):
            on_problem(invalid_object(file, parsed, place, _class_of(values, descriptions)))
        elif parsed is not None:
            images[path].boxes.append(parsed.box)
            images[path].names.append(descriptions.get(parsed.name, parsed.name))
            images[path].ignore.append(parsed.ignore)
    is_fractions = columns.is_fractions or are_fractions([box for image in images.values() for box in image.boxes])
    if is_fractions and not columns.is_fractions:
        message = "most coordinates are 1 or less: all are fractions of the image's sides, and are read as such"
        on_problem(Problem(ProblemKind.FRACTIONS, file, message, level="repaired"))
    for path, (boxes, names, ignore, size, place) in images.items():
        try:
            image = tree.find_image(path, file, split=split)
            size = image_size(image) if is_fractions else size
        except (ValueError, OSError) as error:
            problem = missing_image(file, error, place, names)
            is_missing = isinstance(error, ImageNotFoundError)
            on_problem(problem if is_missing else problem._replace(kind=ProblemKind.UNREADABLE_IMAGE))
            continue
        corners = np.array(boxes, np.float64).reshape(-1, 4)
        if is_fractions and size is not None:
            corners *= (size[1], size[0], size[1], size[0])
        yield Record(image, corners.astype(np.float32), tuple(names), np.array(ignore, bool), size)


def _class_of(values: Mapping[str, str], descriptions: Mapping[str, str]) -> str:
    """The class of a line that is lost; empty: it has none."""
    name = values.get("label", ONLY_CLASS)
    return "" if name.lower() in EMPTY else descriptions.get(name, name)


def _joined(first: Record, second: Record) -> Record:
    """The objects of one image that two files, or two spellings of its path, have."""
    return first._replace(
        boxes=np.concatenate((first.boxes, second.boxes)),
        class_names=first.class_names + second.class_names,
        ignore=np.concatenate((first.ignore, second.ignore)),
    )


def _new(record: Record, first: Record) -> Record:
    """The objects of a record that an earlier file does not have."""
    known = set(zip(map(tuple, first.boxes.tolist()), first.class_names, strict=True))
    rows = zip(map(tuple, record.boxes.tolist()), record.class_names, strict=True)
    return keep_objects(record, [row not in known for row in rows])


@lru_cache(maxsize=2)
def _descriptions(tree: Tree) -> dict[str, str]:
    """The names of the classes of Open Images, by id, e.g. /m/0k4j; from any file with these two columns."""
    files = [file for file in tree.with_suffix(".csv") if _DESCRIPTION.search(tree.start(file))]
    return {cells[0]: cells[1] for file in files for _, cells in csv_rows(file, read_text(file)) if len(cells) == 2}


@while_unchanged
def _splits(file: Path, tree: Tree) -> dict[str, str]:
    """The split of each path in a file."""
    columns = _columns(file)
    if not columns.form:
        return {}
    lines = (row.cells for row in _rows(file, columns))
    path = columns.names.index("path")
    if "split" not in columns.names:
        return image_splits((cells[path].strip() for cells in lines), file, tree)
    own, split = tree.split_of(file) or ALL, columns.names.index("split")
    said: dict[str, str] = {}
    for cells in lines:
        said.setdefault(cells[path].strip(), cells[split].strip().lower())
    return {name: own if word in {*EMPTY, "unassigned"} else word for name, word in said.items()}


def _images_of(file: Path, tree: Tree) -> dict[Path, str]:
    """The images of a file, and their splits."""
    columns, splits = _columns(file), _splits(file, tree)
    return {image: splits[columns.values(rows[0].cells)["path"]] for image, rows in _rows_by_image(file, tree).items()}


def _file_of(source: Source, image: Path, tree: Tree) -> Path:
    """The file of a source that has the image, else its first file."""
    return next((file for file in source.files if image in _rows_by_image(file, tree)), source.files[0])


@while_unchanged
def _rows_by_image(file: Path, tree: Tree) -> dict[Path, list[_Row]]:
    columns = _columns(file)
    by_path: dict[str, list[_Row]] = {}
    for row in _rows(file, columns) if columns.form else ():
        by_path.setdefault(columns.values(row.cells)["path"], []).append(row)
    by_image: dict[Path, list[_Row]] = {}
    for path, rows in by_path.items():
        try:
            by_image.setdefault(tree.find_image(path, file), []).extend(rows)
        except ImageNotFoundError:
            continue
    return by_image


def _scale(file: Path, image: Path, tree: Tree) -> tuple[float, float]:
    """What to multiply the x and y of a file with, for the pixels of an image."""
    if not _is_fractions(file, tree):
        return 1, 1
    height, width = image_size(image)
    return width, height


@while_unchanged
def _is_fractions(file: Path, tree: Tree) -> bool:
    columns = _complete(file, tree)
    objects = (columns.object(columns.values(cells)) for _, cells in _rows(file, columns))
    return columns.is_fractions or are_fractions([each.box for each in objects if isinstance(each, Annotation)])


@while_unchanged
def _columns(file: Path) -> Columns:
    """The columns of a file that is recognized."""
    with file.open("rb") as opened:
        columns = columns_in(opened.read(4096))
    if columns is None:
        raise ValueError(f"{file}: is no list of boxes any more")
    return columns


def _complete(file: Path, tree: Tree) -> Columns:
    columns = _columns(file)
    if columns.fitting:
        raise ValueError(
            f"{file}: its first line names no columns, and its lines fit {' as well as '.join(columns.fitting)}; "
            f"add a first line that names them"
        )
    if not columns.form:
        raise ValueError(
            f"{file}: has the columns {', '.join(columns.head)}; name the needed ones {', '.join(PLAIN)} (or with "
            f"another common name)"
        )
    return columns._replace(cell_has_corners=columns.form == ONE_CELL and _has_corners(file, tree))


@while_unchanged
def _has_corners(file: Path, tree: Tree) -> bool:
    """Whether the cells with boxes have corners, because as x, y, width, height more would leave their images."""
    columns = _columns(file)._replace(cell_has_corners=True)
    rows = [(image, row) for image, rows in _rows_by_image(file, tree).items() for row in rows]
    parsed = [(image, columns.object(columns.values(row.cells))) for image, row in rows]
    return are_corners([(image, one.box) for image, one in parsed if isinstance(one, Annotation)])


def _rows(file: Path, columns: Columns) -> Iterator[_Row]:
    """The lines that are not empty, without the names of the columns."""
    is_head = bool(columns.head)
    for number, cells in csv_rows(file, read_text(file), columns.separator):
        if is_head and any(cells):
            is_head = False
        elif any(cells):
            cells += [""] * (len(columns.names) - len(cells))
            yield _Row(number, cells)


def _style(file: Path) -> tuple[str, str]:
    """Encoding and line end, which are kept, because spreadsheets depend on them."""
    content = file.read_bytes()
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    return encoding, "\r\n" if "\r\n" in content.decode(encoding) else "\n"
