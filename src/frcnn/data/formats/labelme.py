"""LabelMe and X-AnyLabeling: NAME.json for each image, with `shapes` of points in pixels. A shape becomes its bounding
box."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import to_numbers, to_size
from frcnn.data.formats.source import Source, by_split, readable, split_of_image
from frcnn.data.images import image_size
from frcnn.data.problems import (
    ImageNotFoundError,
    OnProblem,
    Problem,
    ProblemKind,
    invalid_object,
    missing_image,
    most_telling,
    object_place,
    shapes_without_box,
    without_annotation,
)
from frcnn.data.records import Annotation, Record, make_record
from frcnn.data.tree import Tree
from frcnn.files import atomic_write, relative_path
from frcnn.json_text import decode_json

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "LabelMe: NAME.json for each image"
SUFFIXES = frozenset({".json"})
_FORM = "LabelMe's format, which has 'shapes' and 'imagePath'"
_NO_OBJECTS = frozenset({"point", "points", "line", "linestrip"})
"""Shapes without a box."""


class _File(
    msgspec.Struct, rename={"path": "imagePath", "pixels": "imageData", "height": "imageHeight", "width": "imageWidth"}
):
    shapes: list[dict[str, Any]]
    path: str | None = None
    height: float | str | None = None
    width: float | str | None = None
    pixels: str | None = None


class _Annotated(NamedTuple):
    file: Path
    record: Record


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    if b'"shapes"' in start:
        return b'"imagePath"' in start or b'"points"' in start
    # The image itself can come before the shapes.
    return (b'"imagePath"' in start or b'"imageData"' in start) and b'"shapes"' in plain_start(file.read_bytes())


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    def split_of(file: Path) -> str | None:
        return tree.split_of(file.parent) or split_of_image(file.stem, file, tree)

    return by_split(files, split_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split. Images in the same folders that are not annotated are left out."""
    first: dict[Path, Path] = {}
    annotated = list(_annotated(source, tree, on_problem))
    # A file without an image of its own, e.g. a copy, is second to the one that has the image's name.
    for file, record in sorted(annotated, key=lambda one: one.file.stem != one.record.image.stem):
        other = first.setdefault(record.image, file)
        if other != file:
            message = f"annotates {record.image}, as {other} does, which is used"
            kind = ProblemKind.ANNOTATED_TWICE
            on_problem(Problem(kind, file, message, level="left out", lost=record.class_names))
    yield from (record for file, record in annotated if first[record.image] == file)
    folders = {image.parent for image in first}
    broken = {_own_image(file, tree) for file in set(source.files) - set(first.values())}
    for image in tree.images:
        if image.parent in folders and image not in first and image not in broken:
            message = "is not annotated; it is left out. If it has no objects, give it a JSON file without shapes"
            on_problem(without_annotation(image, message))


def images(source: Source, tree: Tree) -> list[Path]:
    """The images that have, or can get, an annotation."""
    folders = {image.parent for image in _files(source, tree)} or {file.parent for file in source.files}
    return [image for image in tree.images if image.parent in folders]


def class_names(sources: Sequence[Source], tree: Tree) -> list[str]:
    return []


def read_image(source: Source, image: Path, tree: Tree) -> list[Annotation] | None:
    file = _file_of(source, image, tree)
    if not file.is_file():
        return None
    parsed = ((shape, _object(shape)) for shape in _raw(file)["shapes"])
    return [
        annotation._replace(source=msgspec.json.encode(shape).decode())
        for shape, annotation in parsed
        if isinstance(annotation, Annotation)
    ]


def write_image(source: Source, image: Path, objects: Sequence[Annotation] | None, tree: Tree) -> None:
    """A shape whose box is changed becomes a rectangle. Shapes without a box are kept, at the end."""
    file = _file_of(source, image, tree)
    if objects is None:
        file.unlink(missing_ok=True)
        return
    if file.is_file():
        content = _raw(file)
    else:
        height, width = image_size(image)
        path = relative_path(image, file.parent)
        content = {"version": "5.0.0", "flags": {}, "shapes": [], "imagePath": path, "imageData": None}
        content |= {"imageHeight": height, "imageWidth": width}
    others = [shape for shape in content["shapes"] if not isinstance(_object(shape), Annotation)]
    content["shapes"] = [*map(_shape, objects), *others]
    with atomic_write(file) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))


def _annotated(source: Source, tree: Tree, on_problem: OnProblem) -> Iterator[_Annotated]:
    """The files of a source that can be read and have an image."""
    shapeless: Counter[str] = Counter()
    for file, content in readable(source.files, partial(read_json, content=_File, form=_FORM), on_problem, images=1):
        objects: list[Annotation] = []
        for number, shape in enumerate(content.shapes):
            parsed = _object(shape)
            if isinstance(parsed, Annotation):
                objects.append(parsed)
            elif parsed is None:
                shapeless[str(shape["shape_type"])] += 1
            else:
                name = str(shape.get("label") or "")
                on_problem(invalid_object(file, parsed, object_place(number, name), name))
        try:
            image = _image(file, content.path or "", tree)
        except ImageNotFoundError as error:
            problem = missing_image(file, error, lost=(each.name for each in objects))
            inside = "; the file has the image inside (imageData): save it as an image file" if content.pixels else ""
            on_problem(problem._replace(message=problem.message + inside))
            continue
        size = to_size(content.height, content.width)
        rows, ignore = [(each.box, each.name) for each in objects], [each.ignore for each in objects]
        yield _Annotated(file, make_record(image, rows, size, ignore=ignore))
    if shapeless:
        on_problem(shapes_without_box(source.files[0].parent, shapeless))


def _object(shape: dict[str, Any]) -> Annotation | str | None:
    """The object of a shape; a string: why it has none; None: it is a point or a line."""
    kind, points, label = str(shape.get("shape_type") or "polygon"), shape.get("points"), shape.get("label")
    if kind in _NO_OBJECTS:
        return None
    if label is None or not str(label).strip():
        return "has no label"
    try:
        xs, ys = (to_numbers(values) or [] for values in zip(*((x, y) for x, y in points or ()), strict=True))
    except (TypeError, ValueError):
        xs, ys = [], []
    if len(xs) < 2 or len(ys) < 2:
        return f"a {kind} needs two points or more of two numbers each; it has {str(points)[:80]}"
    if kind == "circle":  # its center, and a point on it
        radius = math.dist((xs[0], ys[0]), (xs[1], ys[1]))
        box = (xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius)
    else:
        box = (min(xs), min(ys), max(xs), max(ys))
    return Annotation(box, str(label), shape.get("difficult") is True)


def _shape(annotation: Annotation) -> dict[str, Any]:
    new: dict[str, Any] = {"label": "", "points": [], "group_id": None, "shape_type": "rectangle", "flags": {}}
    shape = decode_json(annotation.source, dict[str, Any]) if annotation.source else new
    old = _object(shape) if annotation.source else None
    if not isinstance(old, Annotation) or old.box != annotation.box:
        shape |= {"points": [list(annotation.box[:2]), list(annotation.box[2:])], "shape_type": "rectangle"}
    if annotation.ignore != (isinstance(old, Annotation) and old.ignore):
        shape |= {"difficult": annotation.ignore}
    return shape | {"label": annotation.name}


def _raw(file: Path) -> dict[str, Any]:
    """The whole content of the file, checked."""
    read_json(file, _File, _FORM)
    return read_json(file, dict[str, Any], _FORM)


def _own_image(file: Path, tree: Tree) -> Path | None:
    """The image with the name of an annotation file; None: there is none, or several."""
    try:
        return tree.find_image(file.stem, file)
    except ImageNotFoundError:
        return None


def _image(file: Path, name: str, tree: Tree) -> Path:
    """The image of a file: the one beside it with its name, because a file that is renamed keeps its `imagePath`; else
    the one that `imagePath` names; else the one with its name elsewhere."""
    own = _own_image(file, tree)
    if own is not None and own.parent == file.parent:
        return own
    errors = []
    for each in (name, file.stem):
        try:
            return tree.find_image(each, file)
        except ImageNotFoundError as error:
            errors.append(error)
    raise most_telling(errors)


@lru_cache(maxsize=8)
def _files(source: Source, tree: Tree) -> dict[Path, Path]:
    """The annotation file of each image that had one when the folder was opened."""
    annotated = sorted(
        _annotated(source, tree, lambda problem: None), key=lambda one: one.file.stem == one.record.image.stem
    )
    return {record.image: file for file, record in annotated}


def _file_of(source: Source, image: Path, tree: Tree) -> Path:
    """The annotation file of an image; a new one goes where those of the other images of its folder are."""
    files = _files(source, tree)
    if image in files:
        return files[image]
    folder = next((file.parent for other, file in files.items() if other.parent == image.parent), image.parent)
    return folder / f"{image.stem}.json"
