"""Pascal VOC's <object> elements: read and write boxes, also 1-based inclusive ones. (Helper, not a format.)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from frcnn.data.formats.lines import plain, to_numbers
from frcnn.data.formats.shapes import Box, around_rotated
from frcnn.data.formats.xml_files import find, has_tag, text_of
from frcnn.data.records import Annotation

ROOT = "annotation"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def objects_of(root: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Each object that is not a part of another one."""
    for child in root:
        if has_tag(child, "object"):
            yield child
        else:
            yield from objects_of(child)


def class_of(element: ElementTree.Element) -> str:
    """The name as it is written, because 'dog ' may not be 'dog'; without line ends, which indent the file."""
    name = text_of(element, "name")
    return name if name.strip() and "\n" not in name else name.strip()


def is_difficult(element: ElementTree.Element) -> bool:
    return text_of(element, "difficult").strip().lower() in ("1", "true")


class Shape(NamedTuple):
    """Where an object is."""

    box: Box
    """As the file says it."""
    inclusive_offset: Box
    """Is subtracted if the first pixel is 1. VOC's boxes include their last pixel."""
    is_rotated: bool = False


def continuous(boxes: np.ndarray, inclusive_offsets: np.ndarray, first_pixel: int) -> np.ndarray:
    """VOC's inclusive boxes (..., 4) as continuous ones.

    Args:
        inclusive_offsets: of the same shape, see `Shape`.
        first_pixel: the number of the first pixel, 0 or 1.
    """
    return boxes - first_pixel * inclusive_offsets


def box_of(shape: Shape, first_pixel: int) -> Box:
    """The continuous box of one object."""
    x1, y1, x2, y2 = continuous(np.array(shape.box), np.array(shape.inclusive_offset), first_pixel).tolist()
    return x1, y1, x2, y2


def shape_of(element: ElementTree.Element) -> Shape | None:
    """<bndbox>, else the box around <robndbox> or <polygon>; None: the object has none of them."""
    box = _numbers(find(element, "bndbox"), *SIDES)
    if box is not None:
        x1, y1, x2, y2 = box  # swapped corners are ordered later, and equal ones have no area
        return Shape((x1, y1, x2, y2), (float(x2 > x1), float(y2 > y1), float(x2 < x1), float(y2 < y1)))
    rotated = _numbers(find(element, "robndbox"), "cx", "cy", "w", "h", "angle")
    if rotated is not None:
        return Shape(around_rotated(*rotated), (0.0, 0.0, 0.0, 0.0), is_rotated=True)
    for tag in ("polygon", "robndbox"):  # <x1>, <y1>, <x2>, ... or <pt><x>, <y>, ...; rotated boxes with named corners
        x, y = (_values(find(element, tag), axis) for axis in "xy")
        if x and y:
            return Shape((min(x), min(y), max(x), max(y)), (0.0, 0.0, 0.0, 0.0), is_rotated=tag == "robndbox")
    return None


def _values(shape: ElementTree.Element | None, axis: str) -> list[float] | None:
    """The numbers of all elements whose names begin with a letter."""
    points = () if shape is None else shape.iter()
    return to_numbers([each.text or "" for each in points if str(each.tag).lower().startswith(axis)])


def _numbers(shape: ElementTree.Element | None, *tags: str) -> list[float] | None:
    if shape is None:
        return None
    return to_numbers(text_of(shape, tag) for tag in tags)


def header(image: Path, size: tuple[int, int]) -> ElementTree.Element:
    """An annotation without objects."""
    root = ElementTree.Element(ROOT)
    _set(root, "folder", image.parent.name)
    _set(root, "filename", image.name)
    for tag, value in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        _set(root, f"size/{tag}", str(value))
    return root


def describe(element: ElementTree.Element, new: Annotation, first_pixel: int) -> None:
    """Set what we know of an object."""
    x1, y1, x2, y2 = new.box
    if first_pixel and (x2 - x1 <= 1 or y2 - y1 <= 1):
        raise ValueError(
            f"is only {x2 - x1:g} x {y2 - y1:g} pixels, but Pascal VOC needs more than one; convert to another format, "
            f"or remove it"
        )
    _set(element, "name", new.name)
    _set(element, "difficult", str(int(new.ignore)))
    for side, pixel in zip(SIDES, (x1 + first_pixel, y1 + first_pixel, x2, y2), strict=True):
        _set(element, f"bndbox/{side}", plain(pixel))


def _set(parent: ElementTree.Element, path: str, text: str) -> None:
    """Set the text of an element; missing elements are made."""
    for tag in path.split("/"):
        child = find(parent, tag)
        parent = ElementTree.SubElement(parent, tag) if child is None else child
    parent.text = text
