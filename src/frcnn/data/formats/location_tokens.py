"""Boxes in the words of language models: PaliGemma's and Florence-2's answers. (Helper, not a format.)"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_PALIGEMMA = re.compile(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>\s*([^<;]+)")
"""y1, x1, y2, x2 in 1/1024 of the sides, then the class."""
_FLORENCE = re.compile(r"([^<>]+)((?:<loc_\d{1,3}><loc_\d{1,3}><loc_\d{1,3}><loc_\d{1,3}>)+)")
"""A class, then x1, y1, x2, y2 in 1/1000 of the sides, once or several times."""


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects in an answer, with boxes in fractions of the image's sides."""
    found = [_object(name, (x1, y1, x2, y2), 1024) for y1, x1, y2, x2, name in _PALIGEMMA.findall(text)]
    for name, tokens in _FLORENCE.findall(text):
        numbers = re.findall(r"\d+", tokens)
        found += [_object(name, numbers[at : at + 4], 1000) for at in range(0, len(numbers), 4)]
    return found


def _object(name: str, corners: Sequence[str], steps: int) -> dict[str, Any]:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return {"label": name.strip(), **{side: int(number) / steps for side, number in sides}}
