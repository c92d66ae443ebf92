"""Photos much larger than what they are resized to, in tiles: windows that overlap, and what was found in them, merged.

Letters: N boxes, M others, C classes. A window is x1, y1, x2, y2 in pixels of the photo.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from frcnn.ops.boxes import iou
from frcnn.ops.selection import nms

MIN_TILE = 64
"""Pixels. Smaller ones show no object whole, and there would be thousands."""
MAX_OVERLAP = 0.9
"""With more, a photo has a hundred times its pixels in tiles."""
_SAME = 0.5
"""IoU above which two boxes are of one object: Pascal VOC's."""
_MARGIN = 0.02
"""How near to the border of its window, as a share of the window's side, a box counts as cut off by it."""

Window = tuple[int, int, int, int]


class Found(NamedTuple):
    """Detections, and the window in which each was made."""

    boxes: Float[Tensor, "N 4"]
    """Pixels of the photo, inside the window."""
    scores: Float[Tensor, "N"]
    labels: Int[Tensor, "N"]
    windows: Float[Tensor, "N 4"]


def cut_into_windows(size: tuple[int, int], tile: int, overlap: float) -> list[Window]:
    """Windows of at most `tile` x `tile` pixels that cover a photo, row by row, evenly spread.

    Args:
        size: (height, width) of the photo.
        tile: largest side of a window, pixels.
        overlap: least share of a tile that neighbours have in common: a box with no side over `overlap * tile` lies
            whole in one of them.

    Returns:
        One window, the photo itself, if it is not larger than a tile.

    Raises:
        ValueError: a tile or an overlap that leads nowhere.
    """
    if tile < MIN_TILE:
        raise ValueError(f"tile: {tile} pixels are too few; it needs {MIN_TILE} at least, e.g. 1024")
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap: {overlap} is not a share from 0 to {MAX_OVERLAP} of a tile, e.g. 0.2")
    height, width = size
    step = tile - math.ceil(overlap * tile)
    return [
        (x, y, min(x + tile, width), min(y + tile, height))
        for y in _starts(height, tile, step)
        for x in _starts(width, tile, step)
    ]


def _starts(length: int, tile: int, step: int) -> list[int]:
    """At most `step` apart."""
    last = max(0, length - tile)
    count = math.ceil(last / step)
    return [0, *(last * number // count for number in range(1, count + 1))]


def merge(found: Found, size: tuple[int, int]) -> Found:
    """What was found in the windows of one photo, each object once, best first.

    Two boxes are of one object if their class is the same and they agree where both windows look: there, their IoU is
    above 0.5. Boxes that an inner border cuts off are pieces. First, pieces that agree are joined, with the highest of
    their scores; then, those that agree with a whole box are dropped, whatever the scores; what remains are objects
    that no window shows whole. Whole boxes go through NMS at this IoU, whatever that of the detector, and all are kept:
    its limit is on the detections of a window.

    Args:
        size: (height, width) of the photo, whose own borders cut nothing off.

    Contract: `merge(merge(f, s), s) == merge(f, s)`.
    """
    is_cut = _is_cut(found, size)
    joined = _join(_rows(found, is_cut))
    whole = _rows(found, ~is_cut)
    if len(joined.scores) < is_cut.sum():
        return merge(_together(whole, joined), size)  # they may be whole now, or agree with more
    of_whole = [(_agreement(piece, whole) > _SAME).any() for piece in _singles(joined)]
    rest = _rows(joined, ~torch.tensor(of_whole, dtype=torch.bool))
    return _best_first(_together(_rows(whole, _nms_by_class(whole)), rest))


def _join(pieces: Found) -> Found:
    """Each piece goes into the one before that it agrees with most, if with any."""
    boxes, scores, labels, windows = (values.clone() for values in _best_first(pieces))
    alive = torch.ones_like(labels, dtype=torch.bool)
    for i, piece in enumerate(_singles(Found(boxes, scores, labels, windows))):
        before = Found(boxes[:i], scores[:i], labels[:i], windows[:i])
        agreement = _agreement(piece, before) * alive[:i]
        if (agreement > _SAME).any():
            alive[i], other = False, agreement.argmax()
            for values in (boxes, windows):  # the smallest that hold both
                values[other, :2] = torch.minimum(values[other, :2], values[i, :2])
                values[other, 2:] = torch.maximum(values[other, 2:], values[i, 2:])
    return _rows(Found(boxes, scores, labels, windows), alive)


def _agreement(one: Found, others: Found) -> Float[Tensor, "M"]:
    """IoU of what lies in both windows; 0 for another class."""
    mine, theirs = _common(one.boxes, others.windows), _common(others.boxes, one.windows)
    return iou(mine[:, None], theirs[:, None])[:, 0, 0] * (one.labels == others.labels)


def _common(boxes: Float[Tensor, "N 4"], windows: Float[Tensor, "M 4"]) -> Float[Tensor, "K 4"]:
    """Boxes cut off by windows, one or as many; inverted where they do not meet."""
    first = torch.maximum(boxes[:, :2], windows[:, :2])
    return torch.cat((first, torch.minimum(boxes[:, 2:], windows[:, 2:])), dim=1)


def _is_cut(found: Found, size: tuple[int, int]) -> Bool[Tensor, "N"]:
    """Which boxes end at a border of their window that is inside the photo."""
    boxes, windows = found.boxes, found.windows
    height, width = size
    margins = _MARGIN * (windows[:, 2:] - windows[:, :2])
    first = (windows[:, :2] > 0) & (boxes[:, :2] - windows[:, :2] < margins)
    last = (windows[:, 2:] < windows.new_tensor((width, height))) & (windows[:, 2:] - boxes[:, 2:] < margins)
    return (first | last).any(dim=1)


def _nms_by_class(found: Found) -> Int[Tensor, "K"]:
    """Indices of the boxes that are kept."""
    classes = found.labels.unique()
    if not len(classes):
        return found.labels
    scores = found.scores.where(found.labels == classes[:, None], -torch.inf)  # (C, N)
    kept = nms(found.boxes.expand(len(classes), -1, 4), scores, _SAME, len(found.scores))
    return kept[kept >= 0]


def _rows(found: Found, index: Tensor | slice) -> Found:
    return Found(*(values[index] for values in found))


def _singles(found: Found) -> Iterator[Found]:
    return (_rows(found, slice(i, i + 1)) for i in range(len(found.scores)))


def _together(a: Found, b: Found) -> Found:
    return Found._make(map(torch.cat, zip(a, b, strict=True)))


def _best_first(found: Found) -> Found:
    return _rows(found, found.scores.argsort(descending=True, stable=True))
