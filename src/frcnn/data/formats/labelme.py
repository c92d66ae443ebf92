"""LabelMe: NAME.json beside each image, with `shapes` of points in pixels. A shape's box is that around its points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import msgspec

from frcnn.data.formats.json_files import read_json
from frcnn.data.formats.lines import to_size, visible
from frcnn.data.images import image_size, images_among
from frcnn.data.problems import Problem, Report, object_place
from frcnn.data.records import make_record
from frcnn.files import whole_file
from frcnn.types import Annotation, Record

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "LabelMe: NAME.json beside each image"
ALL = "all"
"""The set's name where the annotations lie in the folder itself."""
_FORM = "LabelMe's format, which has 'shapes' and 'imagePath'"
_POINTS = {"rectangle": 2, "polygon": 3, "circle": 2, "rotation": 3}
"""Shapes that have a box, and how many points they need."""


class _Shape(msgspec.Struct):
    label: str | int | float
    points: list[tuple[float, float]]
    shape_type: str | None = "polygon"


class _File(msgspec.Struct, rename={"path": "imagePath", "height": "imageHeight", "width": "imageWidth"}):
    shapes: list[_Shape]
    path: str
    height: int | float | None = None
    width: int | float | None = None


def recognises(folder: Path, settings: DataSettings) -> bool:
    for file in sorted(visible(folder.rglob("*.json")))[:3]:
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
    for file in sorted(visible(place.rglob("*.json")), key=lambda file: (file.parent, len(file.stem), file.name)):
        try:
            content = read_json(file, _File, _FORM)
        except ValueError as error:
            report(Problem("annotation cannot be read", file, str(error).removeprefix(f"{file}: ")))
            continue
        image = _image(file, content)
        objects = []
        for number, shape in enumerate(content.shapes):
            box = _box(shape)
            if box is not None:
                objects.append((box, str(shape.label)))
                continue
            rule = (
                f"a {shape.shape_type} of {len(shape.points)} points has no box; draw one of: {', '.join(_POINTS)}, "
                f"or remove it"
            )
            report(Problem("not a box", file, rule, object_place(number, str(shape.label))))
        yield make_record(image, objects, to_size(str(content.height), str(content.width)))


def images(folder: Path, settings: DataSettings) -> Iterator[tuple[str, Path]]:
    """Every image beside which NAME.json lies or can be written."""
    for name in sets(folder, settings):
        place = folder if name == ALL else folder / name
        for file in visible(place.rglob("*.json")):
            try:
                image = _image(file, read_json(file, _File, _FORM))
            except (ValueError, OSError):
                continue  # reading its image says why, if it has one
            if image.with_suffix(".json") != file:
                rule = f"is of {image}; an annotation that is to be changed must lie beside its image, with its name"
                raise ValueError(f"{file}: {rule}")
        yield from ((name, image) for image in images_among(place.rglob("*")))


def class_names(folder: Path, settings: DataSettings) -> list[str]:
    return []


def read_image(folder: Path, name: str, image: Path, settings: DataSettings) -> list[Annotation] | None:
    file = image.with_suffix(".json")
    if not file.is_file():
        return None
    shapes = _raw(file)["shapes"]
    found = ((shape, _annotation(shape)) for shape in shapes)
    return [thing._replace(source=msgspec.json.encode(shape).decode()) for shape, thing in found if thing is not None]


def write_image(
    folder: Path, name: str, image: Path, objects: Sequence[Annotation] | None, settings: DataSettings
) -> None:
    """A shape whose box is changed becomes a rectangle; those without a box stay as they are, at the end."""
    file = image.with_suffix(".json")
    if objects is None:
        file.unlink(missing_ok=True)
        return
    if file.is_file():
        content = _raw(file)
    else:
        height, width = image_size(image)
        content = {"version": "5.0.0", "flags": {}, "shapes": [], "imagePath": image.name, "imageData": None}
        content |= {"imageHeight": height, "imageWidth": width}
    shapes = [shape for shape in content["shapes"] if _annotation(shape) is None]
    content["shapes"] = [*map(_shape, objects), *shapes]
    with whole_file(file) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))


def _image(file: Path, content: _File) -> Path:
    image = file.parent / PureWindowsPath(content.path)  # which knows both kinds of slashes
    return image if image.is_file() else file.parent / image.name


def _raw(file: Path) -> dict[str, Any]:
    """All that is in the file, after it was checked."""
    read_json(file, _File, _FORM)
    return read_json(file, dict[str, Any], _FORM)


def _annotation(shape: dict[str, Any]) -> Annotation | None:
    checked = msgspec.convert(shape, _Shape)
    box = _box(checked)
    return None if box is None else Annotation(box, str(checked.label))


def _shape(thing: Annotation) -> dict[str, Any]:
    new: dict[str, Any] = {"label": "", "points": [], "group_id": None, "shape_type": "rectangle", "flags": {}}
    shape = msgspec.json.decode(thing.source) if thing.source else new
    old = _annotation(shape) if thing.source else None
    if old is None or old.box != thing.box:
        shape |= {"points": [list(thing.box[:2]), list(thing.box[2:])], "shape_type": "rectangle"}
    return shape | {"label": thing.name}


def _box(shape: _Shape) -> tuple[float, float, float, float] | None:
    if len(shape.points) < _POINTS.get(shape.shape_type or "", math.inf):
        return None
    if shape.shape_type == "circle":  # its centre, and a point on it
        (x, y), on = shape.points[0], shape.points[1]
        radius = math.dist((x, y), on)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
