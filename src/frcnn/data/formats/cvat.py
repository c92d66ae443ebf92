"""CVAT: an XML file <annotations> of many images, as "CVAT for images 1.1" and "CVAT for video 1.1" write it.

An <image> has the name of its file, and its shapes. <box>, <polygon>, <ellipse>, <mask> and <cuboid> become the upright
box around them; <points>, <polyline>, <skeleton> and <tag> are no objects. A <track> of a video has one shape per
frame; the images of frames are frame_000000.png, ... The split is the subset of an image or of its task, or the one
that the name of the task, the file or the image's folder tells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from frcnn.data.formats.lines import is_count, to_numbers, to_size
from frcnn.data.formats.shapes import Box, around_ellipse, around_points, around_rotated, to_corners
from frcnn.data.formats.source import ALL, Source, find_or_report, readable, split_of_image
from frcnn.data.formats.xml_files import read_xml, root_tag
from frcnn.data.problems import ImageNotFoundError, OnProblem, invalid_object, most_telling, shapes_without_box
from frcnn.data.records import Record, make_record
from frcnn.data.tree import Tree, split_in

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "CVAT for images 1.1: annotations.xml, images/NAME.jpg"
SUFFIXES = frozenset({".xml"})
ROOT = "annotations"
_NO_OBJECTS = frozenset({"points", "polyline", "skeleton"})
_CUBOID = [f"{axis}{corner}{side}" for axis in "xy" for side in "12" for corner in ("tl", "bl", "tr", "br")]


def recognizes(file: Path, start: bytes) -> bool:
    return root_tag(start) == ROOT and any(mark in start for mark in (b"<meta", b"<image ", b"<track "))


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    groups: dict[str, list[Path]] = {}
    for file in files:
        try:
            root = read_xml(file, ROOT)
        except ValueError:
            groups.setdefault(ALL, []).append(file)  # so that `read` says why it cannot be read
            continue
        for split in dict.fromkeys(frame.split for frame in _frames(root, file, tree)):
            groups.setdefault(split, []).append(file)
    return [Source(split, tuple(group)) for split, group in groups.items()]


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The images of a split, in the order of their files."""
    for file, root in readable(source.files, partial(read_xml, root_name=ROOT), on_problem, images=1):
        aside: Counter[str] = Counter()
        for frame in _frames(root, file, tree):
            if frame.split == source.split:
                aside.update(shape.tag for shape, _ in frame.shapes if shape.tag in _NO_OBJECTS)
                yield from _record(frame, file, tree, on_problem)
        if aside:
            on_problem(shapes_without_box(file, aside))


class _Frame(NamedTuple):
    """One image."""

    number: str
    name: str
    split: str
    size: tuple[int, int] | None
    shapes: list[tuple[ElementTree.Element, str]]
    """And their classes."""


def _frames(root: ElementTree.Element, file: Path, tree: Tree) -> Iterator[_Frame]:
    """The images of a file; those of a video are the frames with shapes."""
    tasks = [task for tag in ("task", "job") for task in root.iterfind(f"meta//{tag}")]
    splits = {task.findtext("id", ""): _split(task.findtext("subset", ""), task.findtext("name", "")) for task in tasks}
    whole = next(iter(splits.values())) if len(splits) == 1 else None
    whole = whole or tree.split_of(file)
    for image in root.iterfind("image"):
        split = _split(image.get("subset", ""), "") or splits.get(image.get("task_id", "")) or whole
        name = image.get("name", "")
        shapes = [(shape, shape.get("label", "")) for shape in image if shape.tag not in ("tag", "attribute")]
        size = to_size(image.get("height", ""), image.get("width", ""))
        yield _Frame(image.get("id", ""), name, split or split_of_image(name, file, tree) or ALL, size, shapes)
    size = to_size(root.findtext("meta//original_size/height", ""), root.findtext("meta//original_size/width", ""))
    tracks: dict[int, list[tuple[ElementTree.Element, str]]] = {}
    for track in root.iterfind("track"):
        for shape in track:
            if shape.get("outside") != "1" and is_count(shape.get("frame", "")):
                tracks.setdefault(int(shape.get("frame", "")), []).append((shape, track.get("label", "")))
    for number in sorted(tracks):
        yield _Frame(str(number), "", whole or ALL, size, tracks[number])


def _split(subset: str, task: str) -> str | None:
    """The split that a subset or the name of a task tells. "default" is CVAT's name for no subset."""
    if subset.strip().lower() in ("", "default"):
        return split_in(task)
    return split_in(subset) or subset.strip()


def _record(frame: _Frame, file: Path, tree: Tree, on_problem: OnProblem) -> Iterator[Record]:
    place = f"image {frame.name or frame.number}"
    objects = [(shape, label) for shape, label in frame.shapes if shape.tag not in _NO_OBJECTS]
    lost = [label for _, label in objects]
    image = find_or_report(partial(_image, frame, file, tree), file, on_problem, place, lost)
    if image is None:
        return
    found: list[tuple[Box, str]] = []
    ignore: list[bool] = []
    for shape, label in objects:
        box = _box(shape)
        if label.strip() and box is not None:
            found.append((box, label))
            ignore.append(_is_difficult(shape))
        else:
            message = f"a {shape.tag} has no numbers for its place" if label else f"a {shape.tag} has no label"
            on_problem(invalid_object(file, message, place, label))
    yield make_record(image, found, frame.size, ignore=ignore)


def _image(frame: _Frame, file: Path, tree: Tree) -> Path:
    """The image of a frame: by its name; if there is none, by its number, as CVAT names the frames of a video."""
    split = None if frame.split == ALL else frame.split
    errors = []
    numbered = f"frame_{frame.number:0>6}"
    for name in (frame.name, numbered) if frame.name else (numbered, frame.number):
        try:
            return tree.find_image(name, file, split=split)
        except ImageNotFoundError as error:
            errors.append(error)
    raise most_telling(errors)


def _is_difficult(shape: ElementTree.Element) -> bool:
    """CVAT keeps Pascal VOC's mark as an attribute."""
    marks = [each.text or "" for each in shape.iterfind("attribute") if each.get("name") == "difficult"]
    return any(mark.strip().lower() in ("1", "true") for mark in marks)


def _box(shape: ElementTree.Element) -> Box | None:
    """The upright box around a shape; None: it has none. Angles are in degrees, about the center."""
    angle = _numbers(shape, "rotation") or [0.0]
    match shape.tag:
        case "box":
            box = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
            if box is None or not angle[0]:
                return None if box is None else (box[0], box[1], box[2], box[3])
            x1, y1, x2, y2 = box
            return around_rotated((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, math.radians(angle[0]))
        case "ellipse":
            ellipse = _numbers(shape, "cx", "cy", "rx", "ry")
            if ellipse is None:
                return None
            cx, cy, rx, ry = ellipse
            return around_ellipse(cx, cy, rx, ry, math.radians(angle[0]))
        case "mask":
            return to_corners(_numbers(shape, "left", "top", "width", "height"))
        case "polygon":
            parts = shape.get("points", "").replace(";", ",").split(",")
            points = to_numbers(parts) or []
            return around_points(points[::2], points[1::2])
        case "cuboid":
            corners = _numbers(shape, *_CUBOID) or []
            return around_points(corners[:8], corners[8:])
    return None


def _numbers(shape: ElementTree.Element, *names: str) -> list[float] | None:
    return to_numbers(shape.get(name) for name in names)
