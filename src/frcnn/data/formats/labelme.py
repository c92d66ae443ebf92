"""LabelMe: NAME.json beside each image, with `shapes` of points in pixels. A shape's box is that around its points."""

import math
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import msgspec

from frcnn.config import DataSettings
from frcnn.data.formats.json_files import read_json
from frcnn.data.problems import Problem, Report, object_place
from frcnn.data.records import make_record
from frcnn.types import Record

LAYOUT = "LabelMe: NAME.json beside each image"
ALL = "all"
_POINTS = {"rectangle": 2, "polygon": 3, "circle": 2, "rotation": 3}
"""Shapes that have a box, and how many points they need."""


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"


class _File(msgspec.Struct, rename={"path": "imagePath", "height": "imageHeight", "width": "imageWidth"}):
    shapes: list[_Shape]
    path: str
    height: int | None = None
    width: int | None = None


def recognises(folder: Path, settings: DataSettings) -> bool:
    for file in sorted(folder.rglob("*.json"))[:3]:
        try:
            read_json(file, _File, "")
        except (ValueError, OSError):
            continue
        return True
    return False


def sets(folder: Path, settings: DataSettings) -> list[str]:
    """Each folder in it that has annotations; "all" where they lie in the folder itself."""
    if any(folder.glob("*.json")):
        return [ALL]
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and any(child.rglob("*.json")))


def read(folder: Path, name: str, settings: DataSettings, report: Report) -> Iterator[Record]:
    """The images of a set, in order of name."""
    place = folder if name == ALL else folder / name
    for file in sorted(place.rglob("*.json"), key=lambda file: (file.parent, len(file.stem), file.name)):
        try:
            content = read_json(file, _File, "LabelMe's format, which has 'shapes' and 'imagePath'")
        except ValueError as error:
            report(Problem("annotation cannot be read", file, str(error).removeprefix(f"{file}: ")))
            continue
        image = file.parent / PureWindowsPath(content.path)  # which knows both kinds of slashes
        if not image.is_file():
            image = file.parent / image.name
        objects = []
        for number, shape in enumerate(content.shapes):
            box = _box(shape)
            if box is not None:
                objects.append((box, shape.label))
                continue
            rule = (
                f"a {shape.shape_type} of {len(shape.points)} points has no box; draw one of: {', '.join(_POINTS)}, "
                f"or remove it"
            )
            report(Problem("not a box", file, rule, object_place(number, shape.label)))
        size = (content.height, content.width)
        yield make_record(image, objects, size if all(size) else None)  # type: ignore[arg-type]


def _box(shape: _Shape) -> list[float] | None:
    if len(shape.points) < _POINTS.get(shape.shape_type or "", math.inf):
        return None
    if shape.shape_type == "circle":  # its centre, and a point on it
        (x, y), on = shape.points[0], shape.points[1]
        radius = math.dist((x, y), on)
        return [x - radius, y - radius, x + radius, y + radius]
    xs, ys = zip(*shape.points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]
