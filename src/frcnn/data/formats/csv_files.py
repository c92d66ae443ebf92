"""CSV: `path,x1,y1,x2,y2,label`, a line a box, pixels; in any order, and under the usual other names, if the first line
has names. A line with a path alone is an image without objects.

A column `split` says to which set a line belongs; without it, each file is a set (train.csv, test.csv). Paths are
relative to the folder, or to its folder images/.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frcnn.config import DataSettings
from frcnn.data.formats.lines import plain, read_text, to_numbers, to_size
from frcnn.data.problems import Problem, Report
from frcnn.files import whole_file
from frcnn.types import Record

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


class _Row(NamedTuple):
    number: int
    values: dict[str, str]


class _Image(NamedTuple):
    boxes: list[list[float]]
    names: list[str]
    difficult: list[bool]
    size: tuple[int, int] | None


def recognises(folder: Path, settings: DataSettings) -> bool:
    return any(_columns(file) is not None for file in folder.glob("*.csv"))


def sets(folder: Path, settings: DataSettings) -> list[str]:
    return list(dict.fromkeys(_set_name(file, row) for file, row in _all_rows(folder)))


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of their first lines."""
    images: dict[str, _Image] = {}
    for file, (number, values) in _all_rows(folder):
        if _set_name(file, _Row(number, values)) != name:
            continue
        place = f"line {number}"
        if not values["path"]:
            report(Problem("not a row", file, "has no path", place))
            continue
        size = to_size(values.get("height", ""), values.get("width", ""))
        image = images.setdefault(values["path"], _Image([], [], [], size))
        sides = [values[side] for side in _PLAIN[1:5]]
        if not any(sides) and not values["label"]:
            continue
        box = to_numbers(sides, 4)
        if box is None:
            report(Problem("not a box", file, f"'{','.join(sides)}' must be four numbers: x1, y1, x2, y2", place))
        elif not values["label"]:
            report(Problem("not a box", file, "has a box without a label", place))
        else:
            image.boxes.append(box)
            image.names.append(values["label"])
            image.difficult.append(values.get("difficult", "").lower() in ("1", "true"))
    places = [folder, folder / "images"]
    for path, (boxes, names, difficult, size) in images.items():
        yield Record(
            next((place / path for place in places if (place / path).is_file()), folder / path),
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


def _all_rows(folder: Path) -> Iterator[tuple[Path, _Row]]:
    for file in sorted(folder.glob("*.csv")):
        columns = _columns(file)
        if columns is not None:
            yield from ((file, row) for row in _rows(file, columns))


def _set_name(file: Path, row: _Row) -> str:
    return row.values.get("split") or file.stem


def _columns(file: Path) -> tuple[list[str | None], str, bool] | None:
    """Our name of each column, what separates them, and whether the first line has the names; None: no such file."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline().rstrip("\r\n")
    separator = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=separator), [])
    named = [next((ours for ours, theirs in _NAMES.items() if cell.strip().lower() in theirs), None) for cell in cells]
    if set(_PLAIN) <= set(named):
        return named, separator, True
    if len(cells) == len(_PLAIN) and (to_numbers(cells[1:5], 4) is not None or not any(cells[1:])):
        return list(_PLAIN), separator, False
    return None


def _rows(file: Path, columns: tuple[list[str | None], str, bool]) -> Iterator[_Row]:
    names, separator, has_names = columns
    reader = csv.reader(read_text(file).splitlines(keepends=True), delimiter=separator)
    for cells in reader:
        if (has_names and reader.line_num == 1) or not any(cells):
            continue
        cells += [""] * (len(names) - len(cells))
        values = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if name is not None}
        yield _Row(reader.line_num, values)
