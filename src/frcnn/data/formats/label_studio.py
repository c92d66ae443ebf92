"""Label Studio's JSON (and JSON-MIN): a list of tasks, with boxes in per cent of the image's sides.

An image is found by the path of its task in the folder, or by its name, there or in images/; the eight letters that
Label Studio puts before the names of uploaded files may be missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from frcnn.data.formats.json_files import read_json
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import Problem, Report
from frcnn.data.records import make_record
from frcnn.types import Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "Label Studio: its JSON export, with the images in the folder or in images/"
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_Task = dict[str, Any]


class _Shape(msgspec.Struct):
    """A rectangle or a polygon, in per cent of the sides."""

    original_width: int
    original_height: int
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float = 0.0
    points: list[tuple[float, float]] = []
    rectanglelabels: list[str] = []
    polygonlabels: list[str] = []
    labels: list[str] = []


def recognises(folder: Path, settings: DataSettings) -> bool:
    return bool(sets(folder, settings))


def sets(folder: Path, settings: DataSettings) -> list[str]:
    """One for each export."""
    return [file.stem for file in sorted(folder.glob("*.json")) if _is_export(file)]


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in the order of its tasks."""
    file = folder / f"{name}.json"
    for number, task in enumerate(read_json(file, list[_Task], "Label Studio's format, a list of tasks"), start=1):
        place = f"task {task.get('id', number)}"
        address = next(filter(_is_image, [*(task.get("data") or {}).values(), *task.values()]), None)
        if address is None:
            report(Problem("annotation without image", file, "names no image", place))
            continue
        shapes = list(_shapes(task, file, place, report))
        if not shapes and "annotations" in task and not any(_finished(task)):
            rule = f"{address} is not annotated; annotate it, or leave it out of the export"
            report(Problem("image without annotation", file, rule, place))
            continue
        objects = []
        for shape in shapes:
            labels = shape.rectanglelabels or shape.polygonlabels or shape.labels
            box = _box(shape)
            if box is None or len(labels) != 1:
                rule = f"a shape has {len(labels)} labels; a rectangle or polygon with one label is needed"
                report(Problem("not a box", file, rule, place))
            else:
                objects.append((box, labels[0]))
        size = (shapes[0].original_height, shapes[0].original_width) if shapes else None
        yield make_record(_image(folder, address), objects, size)


def _is_export(file: Path) -> bool:
    with file.open("rb") as start:
        if not start.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            return False
    try:
        tasks = read_json(file, list[_Task], "")
    except ValueError:
        return False
    return any("annotations" in task or any(map(_is_image, task.values())) for task in tasks[:1])


def _is_image(value: object) -> bool:
    return isinstance(value, str) and Path(_path(value)).suffix.lower() in IMAGE_SUFFIXES


def _path(address: str) -> str:
    """The path in an address; that of a file on the server is in its question, `?d=PATH`."""
    parts = urlsplit(address)
    return unquote(parse_qs(parts.query).get("d", [parts.path])[0])


def _image(folder: Path, address: str) -> Path:
    path = Path(_path(address).lstrip("/"))
    names = [path, Path(path.name), Path(_UPLOADED.sub("", path.name))]
    places = [place / name for name in names for place in (folder, folder / "images")]
    return next((place for place in places if place.is_file()), folder / path.name)


def _finished(task: _Task) -> list[_Task]:
    return [one for one in task["annotations"] or [] if isinstance(one, dict) and not one.get("was_cancelled")]


def _shapes(task: _Task, file: Path, place: str, report: Report) -> Iterator[_Shape]:
    if "annotations" in task:
        done = _finished(task)
        if len(done) > 1:
            rule = f"has {len(done)} annotations; the last one is taken"
            report(Problem("several annotations", file, rule, place, level="warning"))
        found = [result for one in done[-1:] for result in one.get("result") or []]
        results = [result | result["value"] for result in found if isinstance(result.get("value"), dict)]
    else:
        results = [shape for value in task.values() if isinstance(value, list) for shape in value]
    for result in results:
        if not isinstance(result, dict) or not any(str(key).endswith("labels") for key in result):
            continue  # of another question, e.g. "is the photo sharp?"
        try:
            yield msgspec.convert(result, _Shape)
        except msgspec.ValidationError as error:
            report(Problem("not a box", file, f"a shape cannot be read: {error}", place))


def _box(shape: _Shape) -> list[float] | None:
    """In pixels: around the points, or around the rectangle turned about its upper left corner."""
    sides = (shape.original_width / 100, shape.original_height / 100)
    if shape.points:
        points = [(x * sides[0], y * sides[1]) for x, y in shape.points]
    elif shape.x is None or shape.y is None or shape.width is None or shape.height is None:
        return None
    else:
        x, y = shape.x * sides[0], shape.y * sides[1]
        width, height = shape.width * sides[0], shape.height * sides[1]
        cos, sin = math.cos(math.radians(shape.rotation)), math.sin(math.radians(shape.rotation))
        corners = ((0.0, 0.0), (width, 0.0), (0.0, height), (width, height))
        points = [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in corners]
    xs, ys = zip(*points, strict=True)
    return [round(value, 4) for value in (min(xs), min(ys), max(xs), max(ys))]
