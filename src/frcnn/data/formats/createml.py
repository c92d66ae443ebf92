"""Create ML's JSON: a list of images with annotations; a box is its center, width and height in pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.data.formats.json_files import plain_start, read_json
from frcnn.data.formats.lines import to_numbers
from frcnn.data.formats.source import Source, by_split, find_or_report
from frcnn.data.problems import OnProblem, invalid_object
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "Create ML: a JSON list with image, annotations, label, coordinates; and the images anywhere"
SUFFIXES = frozenset({".json"})
_NAMES = ("image", "imagefilename", "imageFilename", "filename")
_IMAGE = re.compile(rb'\s*\[\s*\{.*?"(image|image[fF]ilename|filename)"\s*:\s*"', re.DOTALL)
_BOX = re.compile(rb'"coordinates"\s*:\s*\{|"annotations?"\s*:\s*\[\s*\]')


def recognizes(file: Path, start: bytes) -> bool:
    start = plain_start(start)
    return bool(_IMAGE.match(start) and _BOX.search(start)) and b'"data"' not in start


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    return by_split(files, tree.split_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a source, in the order of its files. An image without annotations has no objects."""
    for file in source.files:
        form = "Create ML's format, a list of images with 'image' and 'annotations'"
        for number, entry in enumerate(read_json(file, list[dict[str, Any]], form), start=1):
            name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), "")
            place = f"image {number} ('{name}')"
            raw = entry.get("annotations", entry.get("annotation")) or []
            objects = []
            for one in raw if isinstance(raw, list) else [raw]:
                box, label = _box(one), one.get("label") if isinstance(one, dict) else None
                if box is None or label is None:
                    message = f"{one} needs a label, and coordinates with x, y, width, height"
                    on_problem(invalid_object(file, message, place, "" if label is None else str(label)))
                else:
                    objects.append((box, str(label)))
            lost = [label for _, label in objects]
            image = find_or_report(partial(tree.find_image, name, file), file, on_problem, place, lost)
            if image is not None:
                yield make_record(image, objects)


def _box(annotation: Any) -> list[float] | None:
    sides = annotation.get("coordinates") if isinstance(annotation, dict) else None
    if not isinstance(sides, dict):
        return None
    numbers = to_numbers(sides.get(key) for key in ("x", "y", "width", "height"))
    if numbers is None:
        return None
    x, y, width, height = numbers
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
