"""VIA 3's project and CSV, as the regions of VIA 2. (Helper, not a format.)

A shape is a list: the number of its kind, then its coordinates. An attribute and its options have numbers. Segments of
videos have times, which images have not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from frcnn.data.formats.lines import csv_rows, read_text
from frcnn.json_text import decode_json
from frcnn.messages import short

_Region = tuple[dict[str, Any], dict[str, Any]]
"""The attributes of its shape, and its own."""
_KINDS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    5: ("polyline", ()),
    6: ("polyline", ()),
    7: ("polygon", ()),
    8: ("rect", ("x", "y", "width", "height")),
    9: ("circle", ("cx", "cy", "r")),
}
"""The name of each kind of shape, and of its numbers; none: x and y of each point."""
_CSV = b"# Exported using VGG Image Annotator"
_ATTRIBUTE = "# ATTRIBUTE = "
_HEADER = "# CSV_HEADER = "
_COMMENT = re.compile("^#.*", re.MULTILINE)


def is_csv(start: bytes) -> bool:
    return start.startswith(_CSV)


def is_project(start: bytes) -> bool:
    return b'"vid_list"' in start and b'"pid"' in start


def read_project(content: Mapping[str, Any]) -> dict[str, list[_Region]]:
    """The regions of each image.

    Raises:
        msgspec.ValidationError: parts of the project are missing.
    """
    try:
        names = {}
        for view, each in content["view"].items():
            file = content["file"][str(each["fid_list"][0])]
            names[view] = str(file.get("fname") or file["src"])
        regions: dict[str, list[_Region]] = {name: [] for name in names.values()}
        for each in content["metadata"].values():
            if each["xy"]:
                regions[names[each["vid"]]].append(_region(each["xy"], each["av"], content["attribute"]))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise msgspec.ValidationError(f"this part of a project of VIA 3 is missing or wrong: {error}") from None
    return regions


def read_csv(file: Path) -> dict[str, list[_Region]]:
    """The regions of each image.

    Raises:
        ValueError: a line cannot be read.
    """
    text = read_text(file)
    lines = text.splitlines()
    attributes = next((line.removeprefix(_ATTRIBUTE) for line in lines if line.startswith(_ATTRIBUTE)), "{}")
    head = next((line.removeprefix(_HEADER) for line in lines if line.startswith(_HEADER)), "").split(",")
    regions: dict[str, list[_Region]] = {}
    for _, cells in csv_rows(file, _COMMENT.sub("", text)):
        if not cells:
            continue
        row = dict(zip(head, cells, strict=False))
        try:
            (name, *_) = decode_json(row["file_list"], list[str])
            numbers = decode_json(row["spatial_coordinates"], list[float])
            values = decode_json(row["metadata"], dict[str, Any])
            own = regions.setdefault(name, [])
            if numbers:
                own.append(_region(numbers, values, decode_json(attributes, dict[str, Any])))
        except (KeyError, TypeError, ValueError, msgspec.DecodeError) as error:
            raise ValueError(f"{file}: a line is not of VIA 3: {short(row)} ({error})") from None
    return regions


def _region(numbers: list[float], values: Mapping[str, Any], attributes: Mapping[str, Any]) -> _Region:
    kind, names = _KINDS.get(int(numbers[0]), ("unknown", ()))
    shape: dict[str, Any] = {"name": kind}
    if names:
        shape |= dict(zip(names, numbers[1:], strict=False))
    else:
        shape |= {"all_points_x": numbers[1::2], "all_points_y": numbers[2::2]}
    own = {}
    for key, value in values.items():
        attribute = attributes.get(key, {})
        options = attribute.get("options") or {}
        own[attribute.get("aname", key)] = str(options.get(str(value), value)).strip()
    return shape, own
