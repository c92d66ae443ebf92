"""VoTT's JSON: one NAME-export.json for all images, or one ID-asset.json for each image.

VoTT writes the asset files as a person works, and the export when asked; the export wins where both are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import to_numbers, to_size
from frcnn.data.formats.masks import around
from frcnn.data.formats.shapes import to_corners
from frcnn.data.formats.source import Source, by_split, find_or_report, readable
from frcnn.data.problems import AmbiguousImageError, OnProblem, invalid_object, without_annotation
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "VoTT: vott-json-export/NAME-export.json or ID-asset.json, and the images anywhere"
SUFFIXES = frozenset({".json"})
_FORM = "VoTT's format, which has 'assets', or 'asset' and 'regions'"
_ASSET = re.compile(rb'"asset"\s*:\s*\{')
_REGIONS = re.compile(rb'"regions"\s*:\s*\[')
_PROJECT = re.compile(rb'"(tags|videoSettings|activeLearningSettings|sourceConnection|assets)"\s*:')
_EXPORT = re.compile(rb'"assets"\s*:\s*\{')


class _Image(msgspec.Struct):
    name: str = ""
    path: str = ""
    size: dict[str, Any] = {}


class _Region(msgspec.Struct):
    tags: list[str] = []
    boundingBox: Any = None  # noqa: N815 (VoTT's name)
    points: list[dict[str, Any]] = []


class _Asset(msgspec.Struct):
    asset: _Image
    regions: list[_Region] = []


class _Export(msgspec.Struct):
    assets: dict[str, _Asset]


def recognizes(file: Path, start: bytes) -> bool:
    """An export may have many tags before its first asset, so the rest of the file is looked at then."""
    start = plain_start(start)
    if start.lstrip()[:1] != b"{":
        return False
    if _ASSET.search(start) and (_REGIONS.search(start) or _EXPORT.search(start)):
        return True
    if not _PROJECT.search(start):
        return False
    content = plain_start(file.read_bytes())
    return all(pattern.search(content) for pattern in (_EXPORT, _ASSET, _REGIONS))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    """Exports by the split of their name or folder; the files of single images by the split of their folder."""
    exports = [file for file in files if not _is_asset(file)]
    if exports:
        return by_split(exports, tree.split_of)
    return by_split(files, lambda file: tree.split_of(file.parent))


def _is_asset(file: Path) -> bool:
    return file.stem.endswith("-asset")


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a source, in the order of its files. Images without a region are not annotated."""
    waiting = 0
    for file, assets in readable(source.files, _assets, on_problem, images=int(_is_asset(source.files[0]))):
        for asset in assets:
            waiting += not asset.regions
            if asset.regions:
                yield from _record(asset, file, tree, on_problem)
    if waiting:
        message = (
            f"{plural(waiting, 'image has', 'images have')} no region; an image that nobody has tagged is left out"
        )
        on_problem(without_annotation(source.files[0], message))


def _assets(file: Path) -> list[_Asset]:
    if _is_asset(file):
        return [read_json(file, _Asset, _FORM)]
    return list(read_json(file, _Export, _FORM).assets.values())


def _record(asset: _Asset, file: Path, tree: Tree, on_problem: OnProblem) -> Iterator[Record]:
    """The record of an image, if it is there."""
    name = asset.asset.name or asset.asset.path.removeprefix("file:")
    objects = []
    for number, region in enumerate(asset.regions, start=1):
        box = _box(region)
        if box is None or not region.tags:
            message = f"region {number} has {plural(len(region.tags), 'tag')}; it needs a tag and a box"
            on_problem(invalid_object(file, message, name, next(iter(region.tags), "")))
        else:
            objects += [(box, tag) for tag in region.tags]
    size = to_size(asset.asset.size.get("height"), asset.asset.size.get("width"))
    lost = [tag for _, tag in objects]
    image = find_or_report(partial(_image, asset.asset, file, tree), file, on_problem, name, lost)
    if image is not None:
        yield make_record(image, objects, size)


def _image(asset: _Image, file: Path, tree: Tree) -> Path:
    """The image with the name of an asset. If several have it, the path tells which."""
    path = asset.path.removeprefix("file:")
    try:
        return tree.find_image(asset.name or path, file)
    except AmbiguousImageError:
        return tree.find_image(path or asset.name, file)


def _box(region: _Region) -> tuple[float, ...] | None:
    sides = region.boundingBox if isinstance(region.boundingBox, dict) else {}
    box = to_numbers(sides.get(key) for key in ("left", "top", "width", "height"))
    outline = [[point.get("x"), point.get("y")] for point in region.points]
    return to_corners(box or around(outline))
