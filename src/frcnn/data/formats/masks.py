"""The boxes around outlines and masks. (Helper, not a format.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from frcnn.data.formats.lines import to_numbers


def around(segmentation: object) -> tuple[float, ...] | None:
    """x, y, width, height of the box around polygons (x, y, x, y, ... or pairs) or a run-length encoded mask; None: it
    has neither."""
    if isinstance(segmentation, dict):
        return _around_runs(segmentation)
    if not isinstance(segmentation, list | tuple) or not segmentation:
        return None
    polygons = segmentation if all(isinstance(each, list | tuple) for each in segmentation) else (segmentation,)
    xs = to_numbers(x for polygon in polygons for x in polygon[0::2])
    ys = to_numbers(y for polygon in polygons for y in polygon[1::2])
    if not xs or not ys:
        return None
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _around_runs(mask: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The box around the ones of a mask in COCO's run-length encoding: lengths of runs of zeros and ones in turn, down
    the columns."""
    try:
        height, width = map(int, mask["size"])
        counts = mask["counts"]
        runs = np.array(_decoded(counts) if isinstance(counts, str) else counts, np.int64)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    ends = np.cumsum(runs)
    if not len(runs) or (runs < 0).any() or ends[-1] != height * width:
        return None
    is_one = (np.arange(len(runs)) % 2 == 1) & (runs > 0)
    if not is_one.any():
        return None
    first, last = (ends - runs)[is_one], ends[is_one] - 1
    x1, x2 = (first // height).min(), (last // height).max() + 1
    is_tall = (first // height != last // height).any()  # a run that continues in the next column
    y1, y2 = (0, height) if is_tall else ((first % height).min(), (last % height).max() + 1)
    return float(x1), float(y1), float(x2 - x1), float(y2 - y1)


def _decoded(text: str) -> list[int]:
    """The runs of COCO's compressed text: characters of five bits each, low bits first, a sixth bit if more follow.
    From the fourth run on, the text has the difference to the run before the previous one."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
