"""Label Studio's JSON, JSON-MIN, CSV and TSV: a list of tasks, with boxes in percent of the image's sides.

Label Studio puts eight letters and digits before the names of uploaded files; the images on the disk may be without.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from frcnn.data.formats.csv_cells import read_rows
from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import to_size
from frcnn.data.formats.shapes import around_ellipse, around_points, around_rotated, turn
from frcnn.data.formats.source import Source, by_split, find_or_report
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    invalid_object,
    shapes_without_box,
    without_annotation,
)
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "Label Studio: its JSON export, and the images anywhere"
SUFFIXES = frozenset({".json", ".csv", ".tsv"})
_CSV = frozenset({".csv", ".tsv"})
_LIST = re.compile(rb"\s*\[\s*\{")
_RESULTS = re.compile(rb'"(annotations|completions|predictions)"\s*:\s*\[')
_FULL = re.compile(rb'"result"\s*:\s*\[|"data"\s*:\s*\{')
_MIN = re.compile(rb'"(original_width|annotation_id|lead_time)"\s*:')
_ANSWER = re.compile(rb'"result"\s*:\s*\[')
_TASK = re.compile(rb'"task"\s*:\s*\{')
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_NO_BOX = frozenset({"keypointlabels", "vectorlabels"})
_Task = dict[str, Any]


class _Shape(msgspec.Struct):
    """A rectangle, an ellipse or a polygon, in percent of the sides."""

    original_width: float
    original_height: float
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    radiusX: float | None = None  # noqa: N815 (Label Studio's name)
    radiusY: float | None = None  # noqa: N815
    rotation: float = 0.0
    points: list[tuple[float, float]] = []
    rectanglelabels: list[str] = []
    polygonlabels: list[str] = []
    ellipselabels: list[str] = []
    labels: list[str] = []


class _Answer(msgspec.Struct):
    """The annotation of one task, as Label Studio writes it to a cloud's storage."""

    result: list[_Task]
    task: _Task
    was_cancelled: bool = False


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    if file.suffix.lower() in _CSV:
        head, _, rows = start.partition(b"\n")
        return b"annotation_id" in head and b"original_width" in rows
    is_task = bool(_RESULTS.search(start) and _FULL.search(start)) or bool(_MIN.search(start))
    if _ANSWER.search(start) and start.lstrip().startswith(b"{"):
        return _TASK.search(start) is not None or _TASK.search(file.read_bytes()) is not None
    return _LIST.match(start) is not None and is_task


def _tasks(file: Path) -> list[_Task]:
    is_csv = file.suffix.lower() in _CSV
    if is_csv:
        return read_rows(file)
    if _LIST.match(plain_start(file.read_bytes())):
        return read_json(file, list[_Task], "Label Studio's format, a list of tasks")
    answer = read_json(file, _Answer, "Label Studio's format, an annotation with its task")
    return [answer.task | {"annotations": [{"result": answer.result, "was_cancelled": answer.was_cancelled}]}]


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return by_split(files, tree.split_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a source, in the order of the tasks."""
    for file in source.files:
        tasks = _tasks(file)
        waiting: list[_Task] = []
        points: Counter[str] = Counter()
        for number, task in enumerate(tasks, start=1):
            place = f"task {task.get('id', number)}"
            results = _results(task, place, file, on_problem)
            if results is None:
                waiting.append(task)
                continue
            points.update(kind.removesuffix("labels") for result in results for kind in _NO_BOX.intersection(result))
            yield from _record(task, results, place, file, tree, on_problem)
        if waiting:
            guessed = sum(bool(task.get("predictions")) for task in waiting)
            more = f" ({guessed} with predictions that nobody has confirmed)" if guessed else ""
            message = (
                f"{len(waiting)} of {plural(len(tasks), 'task')} not annotated{more}; annotate them in Label Studio"
            )
            on_problem(without_annotation(file, message))
        if points:
            on_problem(shapes_without_box(file, points))


def _results(task: _Task, place: str, file: Path, on_problem: OnProblem) -> list[_Task] | None:
    """What a person said about an image, the last time; None: nothing yet."""
    answers = task.get("annotations", task.get("completions"))
    if answers is None and "predictions" not in task:  # JSON-MIN
        shapes = [shape for value in task.values() if isinstance(value, list) for shape in value]
        shapes = [shape for shape in shapes if isinstance(shape, dict)]
        return shapes if shapes or "annotation_id" in task else None
    done = [one for one in _dicts(answers) if not one.get("was_cancelled")]
    if len(done) > 1:
        message = f"has {len(done)} annotations; the last one is taken"
        on_problem(Problem(ProblemKind.ANNOTATED_TWICE, file, message, place, level="warning"))
    results = [result for one in done[-1:] for result in _dicts(one.get("result"))]
    return [result | result["value"] for result in results if isinstance(result.get("value"), dict)] if done else None


def _dicts(value: object) -> list[_Task]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _record(
    task: _Task, results: Sequence[_Task], place: str, file: Path, tree: Tree, on_problem: OnProblem
) -> Iterator[Record]:
    """The record of a task, if its image is there."""
    objects, size = [], None
    for result in results:
        if not any(str(key).endswith("labels") for key in result) or not _NO_BOX.isdisjoint(result):
            continue  # the answer to another question, e.g. "is the photo sharp?", or a point
        try:
            shape = msgspec.convert(result, _Shape, strict=False)
        except msgspec.ValidationError as error:
            on_problem(invalid_object(file, f"a shape cannot be read: {error}", place))
            continue
        size = to_size(shape.original_height, shape.original_width)
        labels = shape.rectanglelabels or shape.polygonlabels or shape.ellipselabels or shape.labels
        box = _box(shape)
        if box is None or len(labels) != 1:
            message = (
                f"a shape has {plural(len(labels), 'label')}; a rectangle, ellipse or polygon with one label is needed"
            )
            on_problem(invalid_object(file, message, place, next(iter(labels), "")))
        else:
            objects.append((box, labels[0]))
    data = task.get("data")
    address = next(filter(_is_image, (data if isinstance(data, dict) else task).values()), "")
    lost = [label for _, label in objects]
    image = find_or_report(partial(_image, address, file, tree), file, on_problem, place, lost)
    if image is not None:
        yield make_record(image, objects, size)


def _image(address: str, file: Path, tree: Tree) -> Path:
    if not address:
        raise ImageNotFoundError("names no image")
    try:
        return tree.find_image(address, file)
    except ImageNotFoundError:
        name = Path(_path(address)).name
        if not _UPLOADED.match(name):
            raise
        return tree.find_image(_UPLOADED.sub("", name), file)


def _is_image(value: object) -> bool:
    return isinstance(value, str) and Path(_path(value)).suffix.lower() in IMAGE_SUFFIXES


def _path(address: str) -> str:
    """The path in an address. Files on the server have it in the query, `?d=PATH`."""
    parts = urlsplit(address)
    return unquote(parse_qs(parts.query).get("d", [parts.path])[0])


def _box(shape: _Shape) -> list[float] | None:
    """The box in pixels around a polygon, an ellipse, or a rectangle that is rotated about its upper left corner."""
    sides = (shape.original_width / 100, shape.original_height / 100)
    angle = math.radians(shape.rotation)
    box = None
    if shape.points:
        xs, ys = zip(*shape.points, strict=True)
        box = around_points([x * sides[0] for x in xs], [y * sides[1] for y in ys])
    elif shape.x is not None and shape.y is not None:
        x, y = shape.x * sides[0], shape.y * sides[1]
        if shape.radiusX is not None and shape.radiusY is not None:
            box = around_ellipse(x, y, shape.radiusX * sides[0], shape.radiusY * sides[1], angle)
        elif shape.width is not None and shape.height is not None:
            width, height = shape.width * sides[0], shape.height * sides[1]
            cos, sin = turn(angle)
            center = x + (width * cos - height * sin) / 2, y + (width * sin + height * cos) / 2
            box = around_rotated(*center, width, height, angle)
    return None if box is None else [round(value, 4) for value in box]
