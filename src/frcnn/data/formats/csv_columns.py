"""The columns of CSV files, and the box in a line. (Helper, not a format.)"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from frcnn.data.formats.lines import plain
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.records import ONLY_CLASS, Annotation

CORNERS = ("x1", "y1", "x2", "y2")
_CORNER_AND_SIZE = ("x1", "y1", "w", "h")
_CENTER_AND_SIZE = ("cx", "cy", "w", "h")
ONE_CELL = ("box",)
"""The text "[x, y, width, height]", or "[x1, y1, x2, y2]"."""
_FORMS: tuple[tuple[str, ...], ...] = (ONE_CELL, CORNERS, _CORNER_AND_SIZE, _CENTER_AND_SIZE)
"""The columns that can make a box, first choice first."""
_SIDES = frozenset(side for form in _FORMS for side in form)
SPLIT = "split set subset mluse partition"
"""Names of the column, or of the key in JSON, that says the split of an image."""
PLAIN = ("path", *CORNERS, "label")
"""The columns that frcnn writes."""
_NAMES = {
    "path": "path imagepath filename imagefilename filepath file imagefile imagename image img imgpath imgname imageid "
    "imgid location uri imageuri imageurl photo frame patientid name id",
    "label": "labelname classname categoryname label class category objectclass object species annotationtag name type "
    "tag classid labelid categoryid target",
    "x1": "x1 xmin minx left x bboxxmin bboxx1 bboxx bboxleft boxx xtl topx upperleftcornerx roix1 colx",
    "y1": "y1 ymin miny top y bboxymin bboxy1 bboxy bboxtop boxy ytl topy upperleftcornery roiy1 rowy",
    "x2": "x2 xmax maxx right bboxxmax bboxx2 bboxright xbr bottomx lowerrightcornerx roix2",
    "y2": "y2 ymax maxy bottom bboxymax bboxy2 bboxbottom ybr bottomy lowerrightcornery roiy2",
    "cx": "cx xcenter centerx xc bboxcx",
    "cy": "cy ycenter centery yc bboxcy",
    "box": "bbox boundingbox box bndbox",
    "w": "bboxwidth boxwidth bboxw boxw bw w width",
    "h": "bboxheight boxheight bboxh boxh bh h height",
    "width": "imagewidth imgwidth imwidth originalwidth width w",
    "height": "imageheight imgheight imheight originalheight height h",
    "ignore": "ignore difficult iscrowd isgroupof",
    "split": SPLIT,
}
"""Our name of each column, and the names that files give it, as letters and digits in lower case, first choice first. w
and h are the box's sides, width and height the image's."""
_CLASS_WORDS = ("label", "class", "categor", "species")
"""A column whose name has one of these words has the class, if no column has a better name."""
_SPACED: tuple[tuple[str | None, ...], ...] = (
    ("path", "label", None, *CORNERS),  # FlickrLogos-27
    ("path", *CORNERS, "occluded", "label"),  # Udacity
)
_LAYOUTS: tuple[tuple[str | None, ...], ...] = (
    PLAIN,  # RetinaNet
    (*PLAIN, "width", "height"),  # SKU110K
    ("label", *_CORNER_AND_SIZE, "path", "width", "height"),  # makesense.ai
    ("path", "label", *CORNERS),
    *_SPACED,
    ("path", "width", "height", "label", *CORNERS),  # TensorFlow's tutorials
    ("split", "path", "label", "x1", "y1", None, None, "x2", "y2", None, None),  # Google AutoML, in fractions
)
"""The columns of files whose first line does not name them; `_SPACED`: also with spaces between them."""
_SCORED = 100  # lines that tell the columns
_START = 4096  # bytes of a file that are looked at; the last line may be cut
EMPTY = frozenset({"", "nan", "none", "null", "na", "n/a"})
"""How programs write that there is no number, in lower case."""


_FORMULA = re.compile(r"'*[=+\-@].")  # a sign alone is no formula


def class_cell(name: str) -> str:
    """The cell of a class name. A spreadsheet would treat one that begins with = + - or @ as a formula, so it gets a
    leading apostrophe. A name that already has apostrophes before the sign gets one more, so that reading drops one."""
    return f"'{name}" if _FORMULA.match(name) else name


class Columns(NamedTuple):
    names: tuple[str | None, ...]
    """Our name of each column; None: an unknown column."""
    separator: str
    head: tuple[str, ...]
    """The first line, if it names the columns."""
    form: tuple[str, ...]
    """One of `_FORMS`; empty: needed columns are missing."""
    is_fractions: bool
    """Whether the program that wrote it always writes fractions of the image's sides."""
    cell_has_corners: bool = False
    """Whether the cell of a box has its corners, not x, y, width, height."""
    fitting: tuple[str, ...] = ()
    """The columns that the lines could have, where they do not tell which."""

    def values(self, cells: Sequence[str]) -> dict[str, str]:
        """The cells of a line, by our names. A class name loses the apostrophe of `class_cell`."""
        values = {name: cell.strip() for name, cell in zip(self.names, cells, strict=False) if name is not None}
        label = values.get("label", "")
        if label.startswith("'") and _FORMULA.match(label):
            values["label"] = label[1:]
        return values

    def object(self, values: Mapping[str, str], scale: tuple[float, float] = (1, 1)) -> Annotation | str | None:
        """The object of a line; a string: why the line has none; None: its image has no objects.

        Args:
            values: as `values` gives them.
            scale: what to multiply x and y with.
        """
        needed = ("x", "y", "width", "height") if self.form == ONE_CELL else self.form
        sides = re.findall(r"[^\s,;()\[\]]+", values["box"]) if self.form == ONE_CELL else [values[n] for n in needed]
        if all(side.lower() in EMPTY for side in sides):
            return None
        numbers = [number for number in map(_number, sides) if number is not None]
        if len(numbers) != 4 or len(sides) != 4:
            return f"'{','.join(sides)}' must be four numbers: {', '.join(needed)}"
        name = values.get("label", ONLY_CLASS)
        if name.lower() in ("", "nan"):
            return "has a box without a class"
        a, b, c, d = numbers
        if self.form == _CENTER_AND_SIZE:
            a, b = a - c / 2, b - d / 2
        if self.form != CORNERS and not self.cell_has_corners:
            c, d = a + c, b + d
        box = (a * scale[0], b * scale[1], c * scale[0], d * scale[1])
        return Annotation(box, name, values.get("ignore", "").lower() in ("1", "1.0", "true"))

    def cells(self, box: Sequence[float], scale: tuple[float, float]) -> dict[str, str]:
        """The cells of a box, by our names: the inverse of `object`."""
        x1, y1, x2, y2 = (side / factor for side, factor in zip(box, scale * 2, strict=True))
        x, y = ((x1 + x2) / 2, (y1 + y2) / 2) if self.form == _CENTER_AND_SIZE else (x1, y1)
        has_corners = self.form == CORNERS or self.cell_has_corners
        sides = [plain(side) for side in ((x1, y1, x2, y2) if has_corners else (x, y, x2 - x1, y2 - y1))]
        return dict(zip(self.form, [f"[{', '.join(sides)}]"] if self.form == ONE_CELL else sides, strict=True))


def columns_in(start: bytes) -> Columns | None:
    """The columns of a file that begins so; None: it is no list of boxes."""
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = start.removeprefix(codecs.BOM_UTF8).decode("utf-16" if is_utf16 else "utf-8", "replace")
    lines = [line for line in re.split(r"[\r\n]", text) if line.strip()] or [""]
    separator = max(",;\t ", key=lambda mark: (mark != " " and mark in lines[0], lines[0].count(mark)))
    has_gaps = separator == " "  # several spaces count as one
    rows = [next(csv.reader([line], delimiter=separator, skipinitialspace=has_gaps), []) for line in lines[:_SCORED]]
    cells = rows[0]
    fitting = [
        columns
        for layout in (_SPACED if has_gaps else _LAYOUTS)
        for names in (layout, (None, *layout))  # pandas numbers the lines
        if _fits(cells, columns := Columns(names, separator, (), _form(names), is_fractions="split" in layout))
    ]
    if fitting:
        is_whole = len(rows) < len(lines) or len(rows) == 1 or len(start) < _START
        rows = rows if is_whole else rows[:-1]
        columns = _most_likely(fitting, rows)
        whole = [row for row in rows if len(row) == len(columns.names)]
        is_list = has_gaps and 2 * len(_good(columns, whole)) < len(whole)  # of images, each with its boxes
        return None if is_list else columns
    names = _named(cells)
    if len(rows) > 1:
        names = _with_path(names, rows[1])
    form = _form(names) if "path" in names else ()
    if not form and len(_SIDES.intersection(names)) < (2 if "path" in names else 4):
        return None
    columns = Columns(names, separator, tuple(cells), form, is_fractions={"LabelName", "XMin"} <= set(cells))
    if separator == " " and not (form and any(isinstance(_object(columns, row), Annotation) for row in rows[1:])):
        return None  # a sentence
    return columns


def path_column(head: Sequence[str], row: Sequence[str]) -> int | None:
    """The column of the images, by the names of the columns and a line; None: there is none."""
    names = _with_path(_named(head), row)
    return names.index("path") if "path" in names else None


def split_column(head: Sequence[str]) -> int | None:
    """The column of the split of each image; None: there is none."""
    names = _named(head)
    return names.index("split") if "split" in names else None


def _object(columns: Columns, row: Sequence[str]) -> Annotation | str | None:
    return columns.object(columns.values(row)) if len(row) == len(columns.names) else None


def _most_likely(fitting: Sequence[Columns], rows: Sequence[Sequence[str]]) -> Columns:
    """Those of the columns that make boxes of the lines, a few of which may be wrong, and that make the fewest classes.
    If two are equally good, the columns have no form."""
    scores: list[tuple[int, int]] = []
    for columns in fitting:
        good = _good(columns, rows)
        scores.append((len({one.name for one in good}), -len(good)))
    most = max(-good for _, good in scores)
    likely = sorted(
        ((score, columns) for score, columns in zip(scores, fitting, strict=True) if -score[1] >= 0.9 * most),
        key=lambda each: each[0],
    )
    best = [columns for score, columns in likely if score == likely[0][0]]
    if len(best) == 1 or not most:
        return best[0]
    shown = tuple(",".join(name or "" for name in columns.names) for columns in best)
    return best[0]._replace(form=(), fitting=shown)


def _good(columns: Columns, rows: Sequence[Sequence[str]]) -> list[Annotation]:
    """The objects of the lines that have a box with an area."""
    objects = [_object(columns, row) for row in rows]
    return [
        one for one in objects if isinstance(one, Annotation) and one.box[2] > one.box[0] and one.box[3] > one.box[1]
    ]


def _form(names: Sequence[str | None]) -> tuple[str, ...]:
    return next((form for form in _FORMS if set(form) <= set(names)), ())


def _fits(cells: Sequence[str], columns: Columns) -> bool:
    """Whether the first line of a file has values for these columns."""
    names, values = columns.names, columns.values(cells)
    if len(cells) != len(names) or (names[0] is None and not cells[0].isdecimal()):
        return False
    has_numbers = all(_number(value) is not None for name, value in values.items() if name in _SIDES and value)
    has_split = values.get("split", "train").lower() in ("train", "validation", "test", "unassigned")
    is_mark = values.get("occluded", "0") in ("0", "1")
    return has_numbers and has_split and is_mark and Path(values["path"]).suffix.lower() in IMAGE_SUFFIXES


def _named(cells: Sequence[str]) -> tuple[str | None, ...]:
    """Our names of columns that a first line names."""
    theirs = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in cells]
    if "x0" in theirs and "x2" not in theirs:
        theirs = [{"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}.get(name, name) for name in theirs]
    names: list[str | None] = [None] * len(theirs)
    for ours, choices in _NAMES.items():
        if ours in ("w", "h") and ("box" in names or {"x2", "y2"} <= set(names)):
            continue  # width and height are the image's
        free = [name for name, taken in zip(theirs, names, strict=True) if taken is None]
        best = next((choice for choice in choices.split() if choice in free), None)
        if best is None and ours == "label":  # e.g. label_orig
            best = next((name for name in free if any(word in name for word in _CLASS_WORDS)), None)
        if best is not None:
            names[theirs.index(best)] = ours
    return tuple(names)


def _with_path(names: tuple[str | None, ...], row: Sequence[str]) -> tuple[str | None, ...]:
    """The columns of images by their values, if another one has names of image files."""
    paths = [
        number for number, cell in enumerate(row[: len(names)]) if Path(cell.strip()).suffix.lower() in IMAGE_SUFFIXES
    ]
    if not paths or any(names[number] == "path" for number in paths):
        return names
    return tuple(
        "path" if number == paths[0] else None if name == "path" else name for number, name in enumerate(names)
    )


def _number(text: str) -> float | None:
    """A number with a decimal point or a decimal comma; None: it is none."""
    try:
        return float(text.replace(",", ".") if "," in text else text)
    except ValueError:
        return None
