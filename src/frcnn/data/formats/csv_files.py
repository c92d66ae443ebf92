"""CSV: `path,x1,y1,x2,y2,label`, a line a box, pixels; in any order, and under the usual other names, if the first line
has names. A line with a path alone is an image without objects.

A column `split` says to which set a line belongs; without it, each file is a set (train.csv, test.csv). Paths are
relative to the folder, or to its folder images/.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from frcnn.data.formats.lines import plain, read_text, slashes, to_numbers, to_size, visible, while_unchanged
from frcnn.data.images import images_among
from frcnn.data.problems import Problem, Report
from frcnn.files import whole_file
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "CSV: *.csv with path,x1,y1,x2,y2,label"
_NAMES = {
    "path": {"path", "image", "image_path", "imagepath", "filename", "file_name", "file", "img"},
    "x1": {"x1", "xmin", "x_min", "left"},
    "y1": {"y1", "ymin", "y_min", "top"},
    "x2": {"x2", "xmax", "x_max", "right"},
    "y2": {"y2", "ymax", "y_max", "bottom"},
    "label": {"label", "class", "class_name", "classname", "name", "category"},
    "width": {"width", "image_width", "w"},
    "height": {"height", "image_height", "h"},
    "difficult": {"difficult", "iscrowd", "is_crowd"},
    "split": {"split", "set", "subset"},
}
"""Our name of each column, and the names it goes by, in small letters."""
_PLAIN = ("path", "x1", "y1", "x2", "y2", "label")
"""Without a line of names; all of them are needed."""


class _Columns(NamedTuple):
    names: list[str | None]
    """Ours."""
    separator: str
    has_names: bool
    """Whether the first line has them."""


class _Row(NamedTuple):
    number: int
    values: dict[str, str]
    cells: list[str]
    """As they are in the file."""


class _Image(NamedTuple):
    boxes: list[list[float]]
    names: list[str]
    difficult: list[bool]
    size: tuple[int, int] | None


def recognises(folder: Path, settings: DataSettings) -> bool:
    return any(_columns(file) is not None for file in _files(folder))


def sets(folder: Path, settings: DataSettings) -> list[str]:
    return list(dict.fromkeys(name for file in _files(folder) for name in _sets_of(file)))


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of their first lines."""
    images: dict[str, _Image] = {}
    for file, row in _all_rows(folder):
        if _set_name(file, row) != name:
            continue
        number, values = row.number, row.values
        place = f"line {number}"
        if not values["path"]:
            report(Problem("not a row", file, "has no path", place))
            continue
        size = to_size(values.get("height", ""), values.get("width", ""))
        image = images.setdefault(values["path"], _Image([], [], [], size))
        found = _object(values)
        if isinstance(found, str):
            report(Problem("not a box", file, found, place))
        elif found is not None:
            image.boxes.append(list(found.box))
            image.names.append(found.name)
            image.difficult.append(found.difficult)
    sides = [side for image in images.values() for box in image.boxes for side in box]
    if max(sides, default=2) <= 1 and any(0 < side < 1 for side in sides):
        rule = f"all coordinates of the set '{name}' are 1 or less: shares of the sides? Pixels are needed"
        report(Problem("shares, not pixels", folder, rule))
    for path, (boxes, names, difficult, size) in images.items():
        yield Record(
            _image(folder, path),
            np.array(boxes, np.float32).reshape(-1, 4),
            tuple(names),
            np.array(difficult, bool),
            size,
        )


def image_place(name: str, record: Record) -> str:
    """The folder of an image."""
    return "images"


def write(folder: Path, sets: Mapping[str, Sequence[Record]], classes: Sequence[str]) -> None:
    for name, records in sets.items():
        with (
            whole_file(folder / f"{name}.csv") as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow((*_PLAIN, "difficult"))
            for record in records:
                path = record.image.relative_to(folder).as_posix()
                for box, label, difficult in zip(record.boxes, record.names, record.difficult, strict=True):
                    writer.writerow((path, *map(plain, box.tolist()), label, int(difficult)))
                if not record.names:
                    writer.writerow((path, "", "", "", "", "", ""))


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    """Those of the files, and those beside them that are in none, which become part of the set to train on."""
    listed = {_image(folder, row.values["path"]): _set_name(file, row) for file, row in _all_rows(folder)}
    yield from ((name, image) for image, name in listed.items())
    place = folder / "images" if (folder / "images").is_dir() else folder
    names = sets(folder, settings)
    new = next((name for name in names if name.startswith("train")), names[0])
    yield from ((new, image) for image in images_among(place.iterdir()) if image not in listed)


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return []


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    rows = _rows_by_image(_file_of(folder, name, image)).get(str(image))
    if rows is None:
        return None
    found = ((_object(row.values), row.cells) for row in rows)
    return [thing._replace(source=json.dumps(cells)) for thing, cells in found if isinstance(thing, Annotation)]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """Lines that cannot be read stay as they are, after those of the other objects of their image."""
    file = _file_of(folder, name, image)
    columns = _columns(file)
    assert columns is not None  # or it were no file of a set
    if "difficult" not in columns.names and any(thing.difficult for thing in objects or ()):
        raise ValueError(f"{file}: has no column 'difficult'; add one to its first line, or leave the mark out")
    own = _rows_by_image(file).get(str(image), [])
    before = own[0].cells[columns.names.index("path")] if own else image.relative_to(folder).as_posix()
    new: list[list[str]] = []
    for thing in objects or ():
        cells = json.loads(thing.source) if thing.source else [""] * len(columns.names)
        values = {"label": thing.name, "difficult": str(int(thing.difficult))}
        old = _object(_values(cells, columns.names)) if thing.source else None
        if not isinstance(old, Annotation):
            values |= {"path": before, "split": name}
        elif old.difficult == thing.difficult:
            del values["difficult"]
        if not isinstance(old, Annotation) or old.box != thing.box:
            values |= dict(zip(_PLAIN[1:5], map(plain, thing.box), strict=True))
        names = [*columns.names, *[None] * (len(cells) - len(columns.names))]  # a line may have more than the first
        new.append([values.get(ours or "", cell) for ours, cell in zip(names, cells, strict=True)])
    if objects is not None:
        new += [row.cells for row in own if isinstance(_object(row.values), str)]
        new = new or [[{"path": before, "split": name}.get(ours or "", "") for ours in columns.names]]
    numbers = {row.number for row in own}
    encoding, line_end = _style(file)
    with whole_file(file) as partial, partial.open("w", encoding=encoding, newline="") as out:
        writer = csv.writer(out, delimiter=columns.separator, lineterminator=line_end)
        rows = list(_lines(file, columns.separator))
        place = next((at for at, (number, _) in enumerate(rows) if number in numbers), len(rows))
        kept = [(at, cells) for at, (number, cells) in enumerate(rows) if number not in numbers]
        writer.writerows(cells for at, cells in kept if at < place)
        writer.writerows(new)
        writer.writerows(cells for at, cells in kept if at > place)


def _image(folder: Path, path: str) -> Path:
    path = slashes(path)
    places = (folder / path, folder / "images" / path)
    return next((place for place in places if place.is_file()), folder / path)


def _object(values: Mapping[str, str]) -> Annotation | str | None:
    """What a line says; why it says nothing; None if it is a path alone."""
    sides = [values[side] for side in _PLAIN[1:5]]
    if not any(sides) and not values["label"]:
        return None
    box = to_numbers(sides, 4)
    if box is None:
        return f"'{','.join(sides)}' must be four numbers: x1, y1, x2, y2"
    if not values["label"]:
        return "has a box without a label"
    x1, y1, x2, y2 = box
    return Annotation((x1, y1, x2, y2), values["label"], values.get("difficult", "").lower() in ("1", "true"))


def _file_of(folder: Path, name: str, image: Path) -> Path:
    """The file of a set that has the image, else the first of that set."""
    files = [file for file in _files(folder) if name in _sets_of(file)]
    if not files:
        raise ValueError(f"{folder}: has no CSV file of the set '{name}' any more")
    return next((file for file in files if str(image) in _rows_by_image(file)), files[0])


@while_unchanged
def _files(folder: Path) -> list[Path]:
    return sorted(visible(folder.glob("*.csv")))


@while_unchanged
def _sets_of(file: Path) -> list[str]:
    columns = _columns(file)
    if columns is None:
        return []
    return list(dict.fromkeys(_set_name(file, row) for row in _rows(file, columns))) or [file.stem]


@while_unchanged
def _rows_by_image(file: Path) -> dict[str, list[_Row]]:
    columns = _columns(file)
    found: dict[str, list[_Row]] = {}
    for row in _rows(file, columns) if columns is not None else ():
        found.setdefault(str(_image(file.parent, row.values["path"])), []).append(row)
    return found


def _all_rows(folder: Path) -> Iterator[tuple[Path, _Row]]:
    for file in _files(folder):
        columns = _columns(file)
        if columns is not None:
            yield from ((file, row) for row in _rows(file, columns))


def _set_name(file: Path, row: _Row) -> str:
    return row.values.get("split") or file.stem


@while_unchanged
def _columns(file: Path) -> _Columns | None:
    """None: no such file."""
    try:
        first = next((line for line in read_text(file).split("\n") if line.strip()), "")
    except ValueError as error:
        raise ValueError(f"{error}, or move it away") from None
    separator = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=separator), [])
    named = [next((ours for ours, theirs in _NAMES.items() if cell.strip().lower() in theirs), None) for cell in cells]
    if set(_PLAIN) <= set(named):
        return _Columns(named, separator, True)
    if len(cells) == len(_PLAIN) and (to_numbers(cells[1:5], 4) is not None or not any(cells[1:])):
        return _Columns(list(_PLAIN), separator, False)
    return None


def _rows(file: Path, columns: _Columns) -> Iterator[_Row]:
    is_head = columns.has_names
    for number, cells in _lines(file, columns.separator):
        if is_head and any(cells):
            is_head = False
        elif any(cells):
            cells += [""] * (len(columns.names) - len(cells))
            yield _Row(number, _values(cells, columns.names), cells)


def _lines(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """With the number of the line where each ends."""
    reader = csv.reader(io.StringIO(read_text(file)), delimiter=separator)
    yield from ((reader.line_num, cells) for cells in reader)


def _style(file: Path) -> tuple[str, str]:
    """Encoding and line end, which stay as they are: spreadsheets go by them."""
    content = file.read_bytes()
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    return encoding, "\r\n" if "\r\n" in content.decode(encoding) else "\n"


def _values(cells: Sequence[str], names: Sequence[str | None]) -> dict[str, str]:
    return {name: cell.strip() for name, cell in zip(names, cells, strict=False) if name is not None}
