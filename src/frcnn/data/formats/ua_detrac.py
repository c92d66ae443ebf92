"""UA-DETRAC: an XML file <sequence name="SEQ"> for each video, with the objects of each frame.

The frames are the images of a folder SEQ, by the numbers in their names. A <box> has left, top, width and height in
pixels; the attribute vehicle_type is the class. An <ignored_region> is an ignored object of each frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from frcnn.data.formats.frames import frames_in, named
from frcnn.data.formats.lines import to_number, to_numbers
from frcnn.data.formats.shapes import Box, to_corners
from frcnn.data.formats.source import Source, by_split, readable
from frcnn.data.formats.xml_files import read_xml, root_tag
from frcnn.data.problems import OnProblem, invalid_object, missing_image
from frcnn.data.records import ONLY_CLASS, Record, make_record
from frcnn.data.tree import Tree

if TYPE_CHECKING:
    from frcnn.config import DataSettings

LAYOUT = "UA-DETRAC: SEQ.xml with <sequence name='SEQ'>, and a folder SEQ with img00001.jpg"
SUFFIXES = frozenset({".xml"})
ROOT = "sequence"
_IGNORED = "ignored region"


def recognizes(file: Path, start: bytes) -> bool:
    return root_tag(start) == ROOT


def sources(tree: Tree, files: Sequence[Path], settings: DataSettings) -> list[Source]:
    def split_of(file: Path) -> str | None:
        frames = frames_in(named(file.stem, tree), tree)
        return tree.split_of(file) or (tree.split_of(next(iter(frames.values())).parent) if frames else None)

    return by_split(files, split_of)


def read(source: Source, tree: Tree, settings: DataSettings, on_problem: OnProblem) -> Iterator[Record]:
    """The annotated frames of a split, in the order of the files."""
    for file, root in readable(source.files, lambda file: read_xml(file, ROOT), on_problem, images=0):
        frames = frames_in(named(root.get("name", file.stem), tree), tree)
        ignored = [box for element in root.iterfind("ignored_region/box") if (box := _box(element)) is not None]
        for frame in root.iterfind("frame"):
            number = to_number(frame.get("num", ""))
            place = f"frame {frame.get('num')}"
            objects: list[tuple[Box, str]] = []
            for target in frame.iterfind("target_list/target"):
                attribute, element = target.find("attribute"), target.find("box")
                name = (attribute.get("vehicle_type") if attribute is not None else None) or ONLY_CLASS
                box = None if element is None else _box(element)
                if box is None:
                    message = "the left, top, width and height of its box must be numbers"
                    on_problem(invalid_object(file, message, f"{place}, target {target.get('id')}", name))
                else:
                    objects.append((box, name))
            image = frames.get(int(number)) if number is not None else None
            if image is None:
                on_problem(missing_image(file, f"there is no image of {place}", lost=[name for _, name in objects]))
                continue
            marks = [False] * len(objects) + [True] * len(ignored)
            yield make_record(image, [*objects, *((box, _IGNORED) for box in ignored)], ignore=marks)


def _box(element: ElementTree.Element) -> Box | None:
    return to_corners(to_numbers(element.get(side, "") for side in ("left", "top", "width", "height")))
