"""Supervisely: ann/NAME.jpg.json for each image img/NAME.jpg, with rectangles, polygons and bitmaps."""

from __future__ import annotations

import base64
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import to_size
from frcnn.data.formats.masks import around
from frcnn.data.formats.shapes import to_corners
from frcnn.data.formats.source import Source, by_split, find_or_report, readable
from frcnn.data.images import UNREADABLE, open_safely
from frcnn.data.problems import (
    OnProblem,
    invalid_object,
    object_place,
    shapes_without_box,
)
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "Supervisely: meta.json, DATASET/ann/NAME.jpg.json, DATASET/img/NAME.jpg"
SUFFIXES = frozenset({".json"})
_FORM = "Supervisely's format, which has 'size' and 'objects'"
_OBJECTS = re.compile(rb'"objects"\s*:\s*\[')
_SIZE = re.compile(rb'"size"\s*:\s*\{')
_NO_BOX = frozenset({"point", "line", "polyline", "graph", "cuboid", "cuboid_2d", "any"})
_MAX_BITMAP = 1 << 26  # bytes of a PNG; a few kilobytes can unpack to gigabytes


class _Object(msgspec.Struct):
    classTitle: str  # noqa: N815 (Supervisely's name)
    geometryType: str | None = None  # noqa: N815
    points: Any = None
    bitmap: Any = None


class _Content(msgspec.Struct):
    objects: list[_Object]
    size: dict[str, Any] = {}


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    is_open = start.lstrip()[:1] == b"{" and _OBJECTS.search(start) is not None
    return is_open and (b'"classTitle"' in start or (b'"tags"' in start and _SIZE.search(start) is not None))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return by_split(files, lambda file: tree.split_of(file.parent))


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a source, in the order of its files. A file without objects is of an image without objects."""
    shapeless: Counter[str] = Counter()
    for file, content in readable(source.files, partial(read_json, content=_Content, form=_FORM), on_problem, images=1):
        objects = []
        for index, one in enumerate(content.objects):
            if one.geometryType in _NO_BOX:
                shapeless[str(one.geometryType)] += 1
                continue
            box = _box(one)
            if box is None:
                place = object_place(index, one.classTitle)
                on_problem(invalid_object(file, f"a {one.geometryType} without box", place, one.classTitle))
            else:
                objects.append((box, one.classTitle))
        size = to_size(content.size.get("height"), content.size.get("width"))
        lost = [name for _, name in objects]
        image = find_or_report(partial(tree.find_image, file.stem, file), file, on_problem, lost=lost)
        if image is not None:
            yield make_record(image, objects, size)
    if shapeless:
        on_problem(shapes_without_box(source.files[0], shapeless))


def _box(one: _Object) -> tuple[float, ...] | None:
    if isinstance(one.bitmap, dict):
        return _around_bitmap(one.bitmap)
    return to_corners(around(one.points.get("exterior"))) if isinstance(one.points, dict) else None


def _around_bitmap(bitmap: dict[str, Any]) -> tuple[float, ...] | None:
    """The box around the mask in a compressed PNG; its transparency is the mask, if it has any."""
    try:
        x, y = bitmap["origin"]
        png = zlib.decompressobj().decompress(base64.b64decode(bitmap["data"]), _MAX_BITMAP)
        with open_safely(BytesIO(png)) as image:
            mask = image.convert("RGBA").getchannel("A") if image.has_transparency_data else image.convert("L")
            extent = mask.getbbox()
    except (*UNREADABLE, KeyError):
        return None
    return None if extent is None else (x + extent[0], y + extent[1], x + extent[2], y + extent[3])
