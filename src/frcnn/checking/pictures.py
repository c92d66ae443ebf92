"""Contact sheets: a sample of the annotated images, and every image with a defect."""

import math
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from frcnn.checking.report import Check
from frcnn.data.images import read_image
from frcnn.data.problems import Problem
from frcnn.drawing import class_colours
from frcnn.files import whole_file
from frcnn.types import Record

_CELL = (400, 300)  # width, height
_COLUMNS = 4
_ROWS = 5
_CAPTION = 34
_SAMPLE = _COLUMNS * _ROWS
_RED = (225, 30, 30)


def write_pictures(check: Check, folder: Path) -> list[Path]:
    """Write `sample-1.jpg`, ... and a sheet for each kind of defect that can be seen, e.g. `box-without-area-1.jpg`.

    Returns:
        The files, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = sorted({name for records in check.splits.values() for name in records.class_counts})
    colours = class_colours(classes)
    records = {record.image: record for part in check.splits.values() for record in part}
    chosen = np.random.default_rng(0).permutation(len(records))[:_SAMPLE]
    places = list(records)
    sample = (_cell(records[places[number]], colours) for number in sorted(chosen.tolist()))
    files = list(_sheets(folder, "sample", sample))
    for kind in dict.fromkeys(problem.kind for problem in check.problems if problem.path in records):
        found = [problem for problem in check.problems if problem.kind == kind and problem.path in records]
        cells = (cell for problem in found for cell in _cells(problem, records, colours))
        files += _sheets(folder, kind.replace(" ", "-").replace("/", ""), cells)
    return files


def _sheets(folder: Path, name: str, cells: Iterator[Image.Image]) -> Iterator[Path]:
    """One at a time, as there may be thousands of cells."""
    for page in count(1):
        part = list(islice(cells, _COLUMNS * _ROWS))
        if not part:
            return
        size = (_COLUMNS * _CELL[0], math.ceil(len(part) / _COLUMNS) * (_CELL[1] + _CAPTION))
        sheet = Image.new("RGB", size, (30, 30, 30))
        for number, cell in enumerate(part):
            sheet.paste(cell, (number % _COLUMNS * _CELL[0], number // _COLUMNS * (_CELL[1] + _CAPTION)))
        file = folder / f"{name}-{page}.jpg"
        with whole_file(file) as partial:
            sheet.save(partial, quality=88)
        yield file


def _cells(
    problem: Problem, records: dict[Path, Record], colours: dict[str, tuple[int, int, int]]
) -> Iterator[Image.Image]:
    if problem.other is not None:
        yield _cell(records[problem.other], colours)
    yield _cell(records[problem.path], colours, problem)


def _cell(record: Record, colours: dict[str, tuple[int, int, int]], problem: Problem | None = None) -> Image.Image:
    """The image with its boxes; with a problem, that box in red and the others thin."""
    cell = Image.new("RGB", (_CELL[0], _CELL[1] + _CAPTION), (30, 30, 30))
    pen = ImageDraw.Draw(cell)
    font = ImageFont.load_default(size=12)
    try:
        image = read_image(record.image)
    except (ValueError, OSError):
        pen.text((8, 8), "cannot be read", fill=_RED, font=font)
        image = None
    if image is not None:
        small = ImageOps.contain(image, _CELL)
        left, top = (_CELL[0] - small.width) // 2, (_CELL[1] - small.height) // 2
        cell.paste(small, (left, top))
        scale = small.width / image.width
        for number, (box, name) in enumerate(zip(record.boxes.tolist(), record.names, strict=True)):
            marked = problem is not None and problem.object == number
            if not np.isfinite(box).all():
                continue
            x1, y1, x2, y2 = (value * scale for value in box)
            corners = (left + min(x1, x2), top + min(y1, y2), left + max(x1, x2), top + max(y1, y2))
            if marked:
                around = (corners[0] - 5, corners[1] - 5, corners[2] + 5, corners[3] + 5)
                pen.rectangle(around, outline=_RED, width=2)
            pen.rectangle(corners, outline=_RED if marked else colours[name], width=1 if problem and not marked else 2)
    caption = record.image.name if problem is None else f"{record.image.name}, {problem.place}".removesuffix(", ")
    pen.text((6, _CELL[1] + 2), caption, fill=(235, 235, 235), font=font)
    if problem is not None:
        pen.text((6, _CELL[1] + 17), problem.rule[:62], fill=(235, 150, 150), font=font)
    else:
        legend = ", ".join(dict.fromkeys(record.names)) or "no objects"
        pen.text((6, _CELL[1] + 17), legend[:62], fill=(190, 190, 190), font=font)
    return cell
