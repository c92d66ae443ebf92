"""VGG Image Annotator (VIA): a project (JSON), or its exported regions (JSON or CSV), for many images.

A region is a shape with attributes, one of which is the class. Where each region has an attribute of its own, e.g.
{"car": "1"}, the attribute's name is the class. A shape becomes its bounding box. An image without regions has no
objects.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from frcnn.data.formats import via3
from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import csv_rows, read_text, to_numbers
from frcnn.data.formats.shapes import Box, around_ellipse, around_points, to_corners
from frcnn.data.formats.source import Source, by_image_split, find_or_report, image_splits, readable
from frcnn.data.problems import (
    OnProblem,
    Problem,
    ProblemKind,
    invalid_object,
    no_classes,
    shapes_without_box,
)
from frcnn.data.records import ONLY_CLASS, Record, make_record
from frcnn.data.tree import Tree
from frcnn.json_text import decode_json
from frcnn.messages import short, train_command

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "VIA: its project or its exported regions (JSON or CSV)"
SUFFIXES = frozenset({".json", ".csv"})
_CLASSES = ("class", "label", "name", "type", "category")
"""Names of the attribute that is the class where regions have several, first choice first."""
_NO_OBJECTS = frozenset({"point", "polyline"})
"""Shapes without a box, unless a line ends where it begins."""
_GAP = 0.05  # of the length of a line: if its ends are nearer, it is an outline
_ABSENT = frozenset({"", "0", "no", "false", "undefined"})
_MARKS = frozenset({"1", "yes", "true"})
"""Values that only say that a region has an attribute, in lower case."""
_START = 4096  # bytes
_FORM = "VIA's format, an object with images, which have filename and regions"
_Object = dict[str, Any]


class _Region(msgspec.Struct):
    shape_attributes: _Object = {}
    region_attributes: _Object = {}


class _Image(msgspec.Struct):
    filename: str
    regions: list[_Region] | dict[str, _Region] | None = None


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    if file.suffix.lower() == ".csv":
        return b"region_shape_attributes" in start or via3.is_csv(start)
    is_export = any(key in start for key in (b'"shape_attributes"', b'"file_attributes"', b'"base64_img_data"'))
    return (
        via3.is_project(start)
        or b'"_via_settings"' in start
        or b'"_via_img_metadata"' in start
        or (is_export and b'"filename"' in start)
    )


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    def splits_of(file: Path) -> list[str]:
        try:
            return list(image_splits((image.filename for image in _images(file)), file, tree).values())
        except ValueError:
            return list(filter(None, [tree.split_of(file)]))  # `read` says why

    return by_image_split(files, splits_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split. Several files can have the same image, e.g. JSON and CSV: its first regions are used."""
    contents = dict(readable(source.files, _images, on_problem, images=0))
    regions = [region for images in contents.values() for image in images for region in _regions(image)]
    attribute = _class_attribute([region.region_attributes for region in regions], source.files[0])
    if attribute is None:
        on_problem(no_classes(source.files[0]))
    first: dict[Path, tuple[Path, Record]] = {}
    missing: set[str] = set()
    shapeless: Counter[str] = Counter()
    for file, images in contents.items():
        splits = image_splits((image.filename for image in images), file, tree)
        for entry in images:
            if splits[entry.filename] != source.split or entry.filename in missing:
                continue
            lost = (_class_name(region.region_attributes, attribute) for region in _regions(entry))
            image = find_or_report(partial(tree.find_image, entry.filename, file), file, on_problem, lost=lost)
            if image is None:
                missing.add(entry.filename)
                continue
            other, known = first.get(image, (file, None))
            if known is None or (other == file and not known.class_names):  # VIA lists an image that is added again
                first[image] = (file, _record(image, entry, file, attribute, shapeless, on_problem))
                continue
            record = _record(image, entry, file, attribute, Counter(), lambda problem: None)
            if known.class_names != record.class_names or not np.array_equal(known.boxes, record.boxes):
                message = f"has other regions of {image} than {other}, which is used; to use this file: "
                message += train_command(file)
                kind = ProblemKind.ANNOTATED_TWICE
                on_problem(Problem(kind, file, message, level="left out", lost=record.class_names))
    if shapeless:
        on_problem(shapes_without_box(source.files[0], shapeless))
    yield from (record for _, record in first.values())


def _images(file: Path) -> list[_Image]:
    """The images of a file.

    Raises:
        ValueError: the file cannot be read.
    """
    if file.suffix.lower() == ".csv":
        return _images_of_via3(via3.read_csv(file)) if via3.is_csv(file.read_bytes()[:_START]) else _images_of_csv(file)
    content = read_json(file, _Object, _FORM)
    try:
        if "_via_img_metadata" not in content and "vid_list" in str(content.get("project")):
            return _images_of_via3(via3.read_project(content))
        return list(msgspec.convert(content.get("_via_img_metadata", content), dict[str, _Image]).values())
    except msgspec.ValidationError as error:
        raise ValueError(f"{file}: not {_FORM}: {error}") from None


def _images_of_via3(regions: Mapping[str, Sequence[tuple[_Object, _Object]]]) -> list[_Image]:
    return [_Image(name, [_Region(*region) for region in own]) for name, own in regions.items()]


def _images_of_csv(file: Path) -> list[_Image]:
    regions: dict[str, list[_Region]] = {}
    rows = (cells for _, cells in csv_rows(file, read_text(file).removeprefix("#")) if cells)
    head = next(rows, [])
    for cells in rows:
        row = dict(zip(head, cells, strict=False))
        try:
            name = row["filename"]
            shape = decode_json(row["region_shape_attributes"], _Object)
            text = re.sub(r":\s*undefined", ":null", row["region_attributes"])  # as VIA writes an empty attribute
            attributes = decode_json(text, _Object)
        except (KeyError, TypeError, msgspec.DecodeError) as error:
            raise ValueError(f"{file}: a row is not {_FORM}: {short(row)} ({error})") from None
        own = regions.setdefault(name, [])
        if shape:  # else the image has no regions
            own.append(_Region(shape, attributes))
    return [_Image(filename, own) for filename, own in regions.items()]


def _class_attribute(attributes: Sequence[_Object], file: Path) -> str | None:
    """The attribute that is the class: the only one that has values, or the one that is called so; empty: the name of
    each region's only attribute; None: there are no attributes.

    Raises:
        ValueError: it could be one of several.
    """
    names = list(dict.fromkeys(name for each in attributes for name, value in each.items() if isinstance(value, str)))
    names = names or list(dict.fromkeys(name for each in attributes for name in each))  # check boxes
    for choice in _CLASSES:
        called = [name for name in names if re.sub(r"[^a-z]", "", name.lower()).startswith(choice)]
        if called:
            return called[0]
    own = list(map(_values, attributes))
    if any(own) and all(len(each) < 2 and all(map(_is_mark, each, each.values())) for each in own):
        return ""
    if len(names) > 1:
        raise ValueError(
            f"{file}: the regions have the attributes {', '.join(names)}; rename the one that is the class to class"
        )
    return names[0] if names else None


def _values(attributes: _Object) -> dict[str, str]:
    """The attributes that a region has, in lower case; none with check boxes."""
    values = {name: str(value).lower() for name, value in attributes.items() if isinstance(value, str | int)}
    return {name: value for name, value in values.items() if value not in _ABSENT}


def _is_mark(name: str, value: str) -> bool:
    return value in _MARKS or value == name.lower()


def _record(
    image: Path, entry: _Image, file: Path, attribute: str | None, shapeless: Counter[str], on_problem: OnProblem
) -> Record:
    """The objects of an image. Counts the shapes that are no objects by kind."""
    objects: list[tuple[Box, str]] = []
    for number, region in enumerate(_regions(entry), start=1):
        kind = str(region.shape_attributes.get("name"))
        if kind in _NO_OBJECTS and not _is_closed(region.shape_attributes):
            shapeless[kind] += 1
            continue
        box = _box(region.shape_attributes)
        name = _class_name(region.region_attributes, attribute)
        if box is not None and name:
            objects.append((box, name))
            continue
        message = (
            f"is not a shape with a box: {region.shape_attributes}"
            if box is None
            else f"has no {attribute or 'attribute'}"
        )
        place = f"{entry.filename}, region {number}"
        on_problem(invalid_object(file, message, place, name))
    return make_record(image, objects)


def _regions(image: _Image) -> Sequence[_Region]:
    regions = image.regions or []
    return list(regions.values()) if isinstance(regions, dict) else regions


def _class_name(attributes: _Object, attribute: str | None) -> str:
    """The class of a region; empty: it has none."""
    if attribute is None:
        return ONLY_CLASS
    if not attribute:
        return next(iter(_values(attributes)), "")
    value = attributes.get(attribute)
    if isinstance(value, dict):  # check boxes
        checked = [name for name, is_checked in value.items() if is_checked]
        return checked[0] if len(checked) == 1 else ""
    return str(value) if value is not None and str(value).strip() else ""


def _is_closed(shape: _Object) -> bool:
    """Whether a line ends where it begins: many draw outlines so."""
    try:
        points = np.array([shape["all_points_x"], shape["all_points_y"]], np.float64)
    except (KeyError, TypeError, ValueError):
        return False
    length = np.hypot(*np.diff(points)).sum()
    return points.shape[1] > 3 and bool(np.hypot(*(points[:, -1] - points[:, 0])) <= _GAP * length)


def _box(shape: _Object) -> Box | None:
    """The box around a shape, x1, y1, x2, y2; None: it has none."""
    if "all_points_x" in shape:
        points = [shape.get(key) for key in ("all_points_x", "all_points_y")]
        xs, ys = ((to_numbers(each) if isinstance(each, list) else None) or [] for each in points)
        return around_points(xs, ys)
    if "width" in shape:
        return to_corners(to_numbers(shape.get(side) for side in ("x", "y", "width", "height")))
    radius = shape.get("r")  # of a circle
    sides = (shape.get("cx"), shape.get("cy"), shape.get("rx", radius), shape.get("ry", radius), shape.get("theta", 0))
    ellipse = to_numbers(sides)
    return None if ellipse is None else around_ellipse(*ellipse)
