"""CSV in which a cell has several objects, read as JSON values. (Helper, not a format.)"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from frcnn.data.formats.csv_columns import path_column, split_column
from frcnn.data.formats.lines import read_text, to_number, to_numbers, while_unchanged
from frcnn.json_text import load_json

_LOOKED_AT = 50  # lines that tell whether cells have objects
_WORDS = (6, 5, 4)
"""How many words an object can have as text: class, confidence and box; class or confidence, and box; box."""
_NO_OBJECT = [0, 0, 1, 1]
"""The box that Kaggle writes for an image without objects."""


def has_lists(file: Path) -> bool:
    """Whether some cells of a file have several objects, by its first lines."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            head, rows = _table(islice(opened, _LOOKED_AT))
    except (ValueError, csv.Error):
        return False
    if not rows or path_column(head, rows[0]) is None:
        return False
    return _text_column(rows) is not None or any(_has_objects(_value(cell)) for row in rows for cell in row)


@while_unchanged
def read_rows(file: Path) -> list[dict[str, Any]]:
    """Each line as an object: its cells by the names of the columns, or their values if they are JSON. The path of the
    image has the key "file_name", its split "split". Objects that are written as text have the key "objects", and no
    other column counts.

    Raises:
        ValueError: it is not CSV.
    """
    try:
        head, rows = _table(io.StringIO(read_text(file)))
    except csv.Error as error:
        raise ValueError(f"{file}: not CSV ({error})") from None
    path = path_column(head, rows[0]) if rows else None
    if path is None:
        return []
    text = _text_column(rows)
    if text is None:
        values = [dict(zip(head, map(_value, row), strict=True)) for row in rows]
        lists = {name for value in values for name, each in value.items() if isinstance(each, list | dict)}
        for value in values:  # an empty cell is an empty list
            value |= {name: [] for name in lists if not isinstance(value[name], list | dict)}
    else:
        values = [{"objects": objects} for objects in _objects([row[text] for row in rows]) or []]
    split = split_column(head)
    splits = [{} if split is None else {"split": row[split]} for row in rows]
    return [value | {"file_name": row[path]} | own for value, row, own in zip(values, rows, splits, strict=True)]


def _table(lines: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the lines, each with as many cells."""
    lines = iter(lines)
    first = next(lines, "")
    separator = max(",;\t", key=first.count)
    head = next(csv.reader([first], delimiter=separator), [])
    rows = [(row + [""] * len(head))[: len(head)] for row in csv.reader(lines, delimiter=separator) if any(row)]
    return head, rows


def _value(cell: str) -> Any:
    """The value of a cell that has a list or an object of JSON, or as Python writes it; else its text."""
    if not cell.lstrip().startswith(("[", "{")):
        return cell
    try:
        return load_json(cell)
    except ValueError:
        try:
            return ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return cell


def _has_objects(value: Any) -> bool:
    """Whether a value is a list of objects or of lists, or has one. Four numbers alone are one box of a line."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list):
        return False
    is_list = isinstance(value, list) and any(isinstance(each, dict | list) for each in value)
    return is_list or (isinstance(value, dict) and any(map(_has_objects, inner)))


def _text_column(rows: Sequence[Sequence[str]]) -> int | None:
    """The column whose cells have the objects as text; None: there is none."""
    columns = zip(*rows, strict=True)
    return next((number for number, cells in enumerate(columns) if _objects(cells)), None)


def _objects(cells: Sequence[str]) -> list[list[dict[str, Any]]] | None:
    """The objects in each cell of a column, e.g. "cat 0.9 10 20 30 40 dog 1 50 60 70 80", or "10 20 30 40;50 60 70 80".
    A cell without a number has no objects. None: the cells have something else."""
    words = [re.findall(r"[^\s,;|]+", cell) for cell in cells]
    words = [own if any(to_number(word) is not None for word in own) else [] for own in words]
    if not any(len(own) > min(_WORDS) for own in words):
        return None  # at most one box in each cell: a line for each box
    for count in _WORDS:
        if all(len(own) % count == 0 for own in words):
            groups = [[own[at : at + count] for at in range(0, len(own), count)] for own in words]
            objects = [[_object(group) for group in own] for own in groups]
            if all(one is not None for own in objects for one in own):
                return [[one for one in own if one is not None and one["bbox"] != _NO_OBJECT] for own in objects]
    return None


def _object(words: Sequence[str]) -> dict[str, Any] | None:
    """An object of its words; None: they are none."""
    box = to_numbers(words[-4:], 4)
    score = to_number(words[-5]) if len(words) > 4 else None
    is_score = score is not None and 0 <= score <= 1 and (len(words) == 6 or "." in words[-5])
    if box is None or (len(words) == 6 and not is_score):
        return None
    named = {"label": words[0]} if len(words) == 6 or (len(words) == 5 and not is_score) else {}
    return {"bbox": box, **named, **({"score": score} if is_score else {})}
