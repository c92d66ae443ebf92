"""Contact sheets: a sample of the annotated images, and every image with a problem."""

import math
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from frcnn.colors import class_color
from frcnn.data.images import read_image
from frcnn.data.problems import Problem
from frcnn.data.records import Record
from frcnn.files import atomic_write
from frcnn.inference.plot import legible
from frcnn.tools.check.boxes import kept_objects
from frcnn.tools.check.check import CheckReport

CELL = (400, 300)  # width, height
_COLUMNS = 4
_ROWS = 5
_CAPTION = 34
_LETTERS = 200  # of a line: more than fit
_SAMPLE = _COLUMNS * _ROWS
_RED = (225, 30, 30)


def write_pictures(check: CheckReport, folder: Path) -> list[Path]:
    """Draw a sample of the images (`sample-1.jpg`, ...), and the images with each kind of problem (e.g.
    `box-without-area-1.jpg`).

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = _shown(check)
    chosen = np.random.default_rng(0).permutation(len(records))[:_SAMPLE]
    images = list(records)
    sample = (_cell(records[images[number]]) for number in sorted(chosen.tolist()))
    files = list(sheets(folder, "sample", sample))
    for kind in dict.fromkeys(problem.kind for problem in check.problems if problem.path in records):
        same = [problem for problem in check.problems if problem.kind == kind and problem.path in records]
        cells = (cell for problem in same for cell in _cells(problem, records))
        files += sheets(folder, kind.replace(" ", "-").replace("/", ""), cells)
    return files


def _shown(check: CheckReport) -> dict[Path, Record]:
    """Each image with the boxes that training uses, in the order of its annotation. Objects that are left out have
    their boxes too, so that they can be marked: on the image as it is shown, so rotated and scaled with the others."""
    problems: dict[Path, list[Problem]] = {}
    for problem in check.problems:
        problems.setdefault(problem.path, []).append(problem)
    shown = {}
    for split, records in check.splits.items():
        repaired = {record.image: record for record in check.repaired[split]}
        for record in records:
            if record.image in repaired:
                boxes = record.boxes.copy()
                own = problems.get(record.image, ())
                for problem in own:
                    if problem.object is not None and problem.box is not None:
                        boxes[problem.object] = problem.box
                boxes[kept_objects(len(boxes), own)] = repaired[record.image].boxes
                record = record._replace(boxes=boxes)
            shown[record.image] = record
    return shown


def sheets(folder: Path, name: str, cells: Iterator[Image.Image]) -> Iterator[Path]:
    """Write contact sheets (`NAME-1.jpg`, ...), one at a time, because there may be thousands of cells."""
    for page in count(1):
        part = list(islice(cells, _COLUMNS * _ROWS))
        if not part:
            return
        size = (_COLUMNS * CELL[0], math.ceil(len(part) / _COLUMNS) * (CELL[1] + _CAPTION))
        sheet = Image.new("RGB", size, (30, 30, 30))
        for number, cell in enumerate(part):
            sheet.paste(cell, (number % _COLUMNS * CELL[0], number // _COLUMNS * (CELL[1] + _CAPTION)))
        file = folder / f"{name}-{page}.jpg"
        with atomic_write(file) as partial:
            sheet.save(partial, quality=88)
        yield file


def _cells(problem: Problem, records: dict[Path, Record]) -> Iterator[Image.Image]:
    if problem.other is not None:
        yield _cell(records[problem.other])
    yield _cell(records[problem.path], problem)


def _cell(record: Record, problem: Problem | None = None) -> Image.Image:
    """The image with its boxes. If there is a problem, its box is red and the other boxes are thin."""
    cell = empty_cell()
    pen = ImageDraw.Draw(cell)

    try:
        image = read_image(record.image)
    except (ValueError, OSError):
        write(pen, (8, 8), "cannot be read", _RED)
        image = None
    if image is not None:
        small = ImageOps.contain(image, CELL)
        left, top = (CELL[0] - small.width) // 2, (CELL[1] - small.height) // 2
        cell.paste(small, (left, top))
        scale = small.width / image.width
        for number, (box, name) in enumerate(zip(record.boxes.tolist(), record.class_names, strict=True)):
            marked = problem is not None and problem.object == number
            if not np.isfinite(box).all():
                continue
            x1, y1, x2, y2 = (value * scale for value in box)
            corners = (left + min(x1, x2), top + min(y1, y2), left + max(x1, x2), top + max(y1, y2))
            if marked:
                around = (corners[0] - 5, corners[1] - 5, corners[2] + 5, corners[3] + 5)
                pen.rectangle(around, outline=_RED, width=2)
            pen.rectangle(
                corners, outline=_RED if marked else class_color(name), width=1 if problem and not marked else 2
            )
    caption = record.image.name if problem is None else f"{record.image.name}, {problem.place}".removesuffix(", ")
    write(pen, (6, CELL[1] + 2), caption, (235, 235, 235))
    if problem is not None:
        write(pen, (6, CELL[1] + 17), problem.message, (235, 150, 150))
    else:
        legend = ", ".join(dict.fromkeys(record.class_names)) or "no objects"
        write(pen, (6, CELL[1] + 17), legend, (190, 190, 190))
    return cell


def empty_cell() -> Image.Image:
    """A cell of a contact sheet, with room for two lines of text below the picture."""
    return Image.new("RGB", (CELL[0], CELL[1] + _CAPTION), (30, 30, 30))


def write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, color: tuple[int, int, int]) -> None:
    """A line of text in a cell. A longer one ends in dots: half of a number would be another number."""
    drawn, font = legible(text[:_LETTERS], 12)
    room = CELL[0] - 2 * place[0]
    if pen.textlength(drawn, font=font) > room:
        while pen.textlength(f"{drawn}...", font=font) > room:
            drawn = drawn[:-1]
        drawn += "..."
    pen.text(place, drawn, fill=color, font=font)
