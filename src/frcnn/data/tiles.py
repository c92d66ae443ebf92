"""Tiles: overlapping windows of images that are much larger than the detector's input.

`frcnn.inference.tiling` merges the detections in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from frcnn.data.images import image_size
from frcnn.data.records import Record, Records, Window
from frcnn.resizing import Resizing

MIN_TILE = 64
"""Pixels. Smaller ones show no object whole, and there would be thousands."""
OVERLAP = 0.2
"""The usual fraction of a tile that neighbors share."""
MAX_OVERLAP = 0.9
"""With more, the tiles of an image have a hundred times its pixels."""
MIN_VISIBLE = 0.5
"""An object is ignored, neither object nor background, where a smaller fraction of its area is visible."""


def cut_into_windows(size: tuple[int, int], tile: int, overlap: float = OVERLAP) -> list[Window]:
    """Windows of at most `tile` x `tile` pixels that cover an image, row by row, evenly spaced.

    Args:
        size: (height, width) of the image.
        tile: largest side of a window, pixels.
        overlap: least fraction of a tile that neighbors share: a box with no side over `overlap * tile` lies whole in
            one of them.

    Returns:
        One window, the image itself, if it is not larger than a tile.

    Raises:
        ValueError: the tile is too small, or the overlap is not in 0..0.9.
    """
    if tile < MIN_TILE:
        raise ValueError(f"tile: {tile} pixels must be at least {MIN_TILE}, e.g. 1024")
    if not 0 <= overlap <= MAX_OVERLAP:
        raise ValueError(f"overlap: {overlap} must be a fraction of a tile, 0 to {MAX_OVERLAP}, e.g. 0.2")
    height, width = size
    step = tile - math.ceil(overlap * tile)
    return [
        (x, y, min(x + tile, width), min(y + tile, height))
        for y in _starts(height, tile, step)
        for x in _starts(width, tile, step)
    ]


def count_windows(size: tuple[int, int], tile: int, overlap: float = OVERLAP) -> int:
    """The number of windows of `cut_into_windows`, without making them: a request may ask for millions."""
    height, width = size
    step = tile - math.ceil(overlap * tile)
    return len(_starts(height, tile, step)) * len(_starts(width, tile, step))


def _starts(length: int, tile: int, step: int) -> list[int]:
    """At most `step` apart."""
    last = max(0, length - tile)
    count = math.ceil(last / step)
    return [0, *(last * number // count for number in range(1, count + 1))]


def size_of(record: Record) -> tuple[int, int]:
    """(height, width) of a verified image or of a tile, pixels. Errors as `frcnn.data.images.read_image`."""
    return record.size or image_size(record.image)


def in_tiles(records: Sequence[Record], resizing: Resizing) -> Records:
    """The images as training sees them: those that are larger than a tile (`detector.image.tile`) become tiles.

    An object is in each tile that shows it, clipped; where less than half of it is visible it is ignored. Of the tiles
    without objects, as many are kept as there are tiles with objects, evenly spread.
    """
    if not resizing.tile:
        return Records.of(records)
    return Records.of(each for record in records for each in _tiles(record, resizing.tile))


def count_hidden_objects(records: Sequence[Record], resizing: Resizing) -> int:
    """The number of objects that no tile shows by at least half; training ignores them."""
    if not resizing.tile:
        return 0
    windows = (np.array(cut_into_windows(size_of(record), resizing.tile), np.float32) for record in records)
    return sum(
        int((~_trained_on(record, own).any(axis=1) & ~record.ignore).sum())
        for record, own in zip(records, windows, strict=True)
    )


def _tiles(record: Record, tile: int) -> Iterator[Record]:
    windows = cut_into_windows(size_of(record), tile)
    if len(windows) == 1:
        return iter([record])
    corners = np.array(windows, np.float32)
    trained = _trained_on(record, corners).any(axis=0)
    shown = (_visible(record, corners) > 0).any(axis=0)
    full, empty = np.flatnonzero(trained), np.flatnonzero(~shown)  # tiles with ignored objects alone teach nothing
    count = min(len(empty), max(len(full), 1))
    some = empty[np.arange(count) * len(empty) // max(count, 1)]
    return (_tile(record, windows[index]) for index in (*full.tolist(), *some.tolist()))


def _visible(record: Record, windows: np.ndarray) -> np.ndarray:
    """(G, W): how much of each object each window shows, square pixels."""
    boxes = record.boxes[:, None]
    sides = np.minimum(boxes[..., 2:], windows[:, 2:]) - np.maximum(boxes[..., :2], windows[:, :2])
    area: np.ndarray = sides.clip(min=0).prod(axis=2)
    return area


def _trained_on(record: Record, windows: np.ndarray) -> np.ndarray:
    """(G, W) bool: which windows show enough of which objects to train on them."""
    area = (record.boxes[:, 2:] - record.boxes[:, :2]).prod(axis=1)
    enough: np.ndarray = _visible(record, windows) >= MIN_VISIBLE * area[:, None]
    return enough & (~record.ignore & (area > 0))[:, None]


def _tile(record: Record, window: Window) -> Record:
    """The part of a record in one of its windows."""
    boxes, visible = clipped(record.boxes, window)
    shown = visible > 0
    return Record(
        record.image,
        (boxes - np.tile(np.array(window[:2], np.float32), 2))[shown],
        tuple(record.class_names[index] for index in np.flatnonzero(shown)),
        (record.ignore | (visible < MIN_VISIBLE))[shown],
        (window[3] - window[1], window[2] - window[0]),
        window,
    )


def clipped(boxes: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (G, 4), xyxy, cut at the border of a window; and the fraction of the area of each that is left, (G,)."""
    corners = np.array(window, np.float32)
    low, high = boxes[:, :2].clip(corners[:2], corners[2:]), boxes[:, 2:].clip(corners[:2], corners[2:])
    area, left = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1), (high - low).prod(axis=1)
    visible = np.divide(left, area, out=np.zeros_like(area), where=area > 0)
    return np.concatenate((low, high), axis=1), visible


def window_around(boxes: Sequence[Sequence[float]], size: tuple[int, int], *, context: float, least: float) -> Window:
    """A square window around some boxes, for a picture of them; moved inside the image, and no larger than it.

    Args:
        boxes: xyxy, pixels of the image.
        size: (width, height) of the image.
        context: side of the window / longer side of the smallest box that holds all.
        least: side of the window, pixels, at least.
    """
    low = [min(box[axis] for box in boxes) for axis in (0, 1)]
    high = [max(box[axis + 2] for box in boxes) for axis in (0, 1)]
    side = max(context * max(high[0] - low[0], high[1] - low[1]), least)
    starts, ends = [], []
    for first, last, length in zip(low, high, size, strict=True):
        extent = min(side, length)
        start = min(max((first + last - extent) / 2, 0), length - extent)
        starts.append(int(start))
        ends.append(max(min(math.ceil(start + extent), length), int(start) + 1))
    return starts[0], starts[1], ends[0], ends[1]
