"""The detections in the tiles of an image (see `frcnn.data.tiles`), merged.

Letters: N boxes, M others. A window is x1, y1, x2, y2 in pixels of the image.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_SAME = 0.5
"""Two boxes with a larger IoU are of one object (Pascal VOC's threshold)."""
_MARGIN = 0.02
"""A box that ends this near to a border of its window, as a fraction of the window's side, counts as cut by it."""


class WindowDetections(NamedTuple):
    """Detections, and the window of each."""

    boxes: np.ndarray
    """(N, 4) float32, pixels of the image, inside the window."""
    scores: np.ndarray
    """(N,) float32."""
    labels: np.ndarray
    """(N,) int."""
    windows: np.ndarray
    """(N, 4) float32."""


def merge_windows(detections: WindowDetections, size: tuple[int, int]) -> WindowDetections:
    """The detections in the windows of one image, each object once, highest score first.

    Two boxes are of one object if they have the same class and agree where both windows overlap: there, their IoU is
    above 0.5. A box that an inner border cuts is a piece. First, pieces that agree are joined and keep the highest of
    their scores. Then, pieces that agree with a whole box are dropped, whatever the scores. The other pieces are
    objects that no window shows whole. Whole boxes go through NMS at this IoU, whatever the detector's own threshold.
    All are kept: the detector's limit is per window.

    Args:
        size: (height, width) of the image, whose own borders cut nothing.

    Contract: `merge_windows(merge_windows(d, s), s) == merge_windows(d, s)`.
    """
    is_cut = _is_cut(detections, size)
    joined = _join(_rows(detections, is_cut))
    whole = _rows(detections, ~is_cut)
    if len(joined.scores) < is_cut.sum():
        return merge_windows(_together(whole, joined), size)  # they may be whole now, or agree with more
    of_whole = [bool((_agreement(piece, whole) > _SAME).any()) for piece in _singles(joined)]
    rest = _rows(joined, ~np.array(of_whole, bool))
    return _best_first(_together(_nms(whole), rest))


def _join(pieces: WindowDetections) -> WindowDetections:
    """Each piece goes into the earlier one that it agrees with most, if it agrees with any."""
    boxes, scores, labels, windows = (values.copy() for values in _best_first(pieces))
    alive = np.ones(len(labels), bool)
    for i, piece in enumerate(_singles(WindowDetections(boxes, scores, labels, windows))):
        before = WindowDetections(boxes[:i], scores[:i], labels[:i], windows[:i])
        agreement = _agreement(piece, before) * alive[:i]
        if (agreement > _SAME).any():
            alive[i], other = False, agreement.argmax()
            for values in (boxes, windows):  # the smallest that hold both
                values[other, :2] = np.minimum(values[other, :2], values[i, :2])
                values[other, 2:] = np.maximum(values[other, 2:], values[i, 2:])
    return _rows(WindowDetections(boxes, scores, labels, windows), alive)


def _agreement(one: WindowDetections, others: WindowDetections) -> np.ndarray:
    """(M,): IoU inside both windows; 0 for another class."""
    mine, theirs = _intersection(one.boxes, others.windows), _intersection(others.boxes, one.windows)
    return _iou(mine, theirs) * (one.labels == others.labels)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4): of each box of `a` with the one of `b` in its place (either may be one box); inverted if apart."""
    return np.concatenate((np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])), axis=1)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,): pairs as for `_intersection`."""
    intersection = _area(_intersection(a, b))
    union = _area(a) + _area(b) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    return sides[:, 0] * sides[:, 1]


def _is_cut(detections: WindowDetections, size: tuple[int, int]) -> np.ndarray:
    """(N,): which boxes end at a border of their window that is inside the image."""
    boxes, windows = detections.boxes, detections.windows
    height, width = size
    margins = _MARGIN * (windows[:, 2:] - windows[:, :2])
    first = (windows[:, :2] > 0) & (boxes[:, :2] - windows[:, :2] < margins)
    last = (windows[:, 2:] < np.array((width, height))) & (windows[:, 2:] - boxes[:, 2:] < margins)
    return (first | last).any(axis=1)


def _nms(detections: WindowDetections) -> WindowDetections:
    """Non-maximum suppression within each class."""
    detections = _best_first(detections)
    kept = np.ones(len(detections.scores), bool)
    for i, best in enumerate(_singles(detections)):
        if kept[i]:
            rest = _rows(detections, slice(i + 1, None))
            kept[i + 1 :] &= (_iou(best.boxes, rest.boxes) <= _SAME) | (best.labels != rest.labels)
    return _rows(detections, kept)


def _rows(detections: WindowDetections, index: np.ndarray | slice) -> WindowDetections:
    return WindowDetections(*(values[index] for values in detections))


def _singles(detections: WindowDetections) -> Iterator[WindowDetections]:
    return (_rows(detections, slice(i, i + 1)) for i in range(len(detections.scores)))


def _together(*parts: WindowDetections) -> WindowDetections:
    return WindowDetections._make(map(np.concatenate, zip(*parts, strict=True)))


def _best_first(detections: WindowDetections) -> WindowDetections:
    return _rows(detections, np.argsort(-detections.scores, kind="stable"))
