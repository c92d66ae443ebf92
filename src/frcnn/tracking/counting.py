"""Counting objects that cross a line or enter a zone. A point stands for an object: the middle of its box's lower side,
where it touches the ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from frcnn.inference.results import Detections

_FORGOTTEN = 10_000
"""Frames after which a tracker_id that was not seen will not come back."""
Point = tuple[float, float]
Direction = Literal["left to right", "right to left", "in", "out"]


class Count(NamedTuple):
    """One object that crossed a line, or entered or left a zone."""

    frame: int
    """Number of the frame."""
    seconds: float | None
    """The time of the frame; None for a folder of images."""
    tracker_id: int
    class_name: str
    place: str
    """Name of the line or zone, e.g. "line 1"."""
    direction: Direction
    """Over a line: as seen when you look from its first to its second point."""
    x: float
    y: float


class Line:
    """A line from one point to another; only this part counts.

    Args:
        points: x1, y1, x2, y2 in pixels.
    """

    def __init__(self, points: Sequence[float]) -> None:
        if len(points) != 4 or tuple(points[:2]) == tuple(points[2:]):
            raise ValueError(f"line {_listed(points)}: must be x1,y1,x2,y2 in pixels, two different points")
        self._start, self._end = np.array(points[:2], float), np.array(points[2:], float)

    def crossing(self, before: Point, now: Point) -> Direction | None:
        """Whether a movement crosses the line, and how. A point on the line is on its right."""
        first, second = self._side(before), self._side(now)
        if (first < 0) == (second < 0):
            return None
        movement = np.subtract(now, before)
        if _side(self._start, before, movement) * _side(self._end, before, movement) > 0:
            return None  # it passes beside the end of the line
        return "left to right" if second >= 0 else "right to left"

    def _side(self, point: Point) -> float:
        """Negative on the left of the line, in an image whose y grows downward."""
        return _side(np.array(point), self._start, self._end - self._start)


class Zone:
    """A polygon.

    Args:
        points: x1, y1, x2, y2, x3, y3, ... in pixels.
    """

    def __init__(self, points: Sequence[float]) -> None:
        if len(points) < 6 or len(points) % 2:
            raise ValueError(f"zone {_listed(points)}: must be x1,y1,x2,y2,x3,y3,... in pixels, three points or more")
        self._corners = np.array(points, float).reshape(-1, 2)

    def crossing(self, before: Point, now: Point) -> Direction | None:
        """Whether a movement enters or leaves the zone."""
        was, is_ = self._has(before), self._has(now)
        return None if was == is_ else "in" if is_ else "out"

    def _has(self, point: Point) -> bool:
        """By the number of sides that a ray to the right crosses."""
        (x1, y1), (x2, y2) = self._corners.T, np.roll(self._corners, -1, axis=0).T
        x, y = point
        spans = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            cut = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
        return bool((spans & (x < cut)).sum() % 2)


class Counter:
    """Counts in one video, frame after frame. Only detections with a `tracker_id` are counted.

    Args:
        places: name -> line or zone.
    """

    def __init__(self, places: dict[str, Line | Zone]) -> None:
        self._places = places
        self._last: dict[int, tuple[Point, int]] = {}
        """tracker_id -> where it was last, and in which frame; the latest one is last."""

    def __call__(self, detections: Detections, *, frame: int) -> list[Count]:
        """The counts of a frame.

        Args:
            frame: its number.
        """
        counts = list(self._counts(detections, frame))
        while self._last and frame - self._last[oldest := next(iter(self._last))][1] > _FORGOTTEN:
            del self._last[oldest]
        return counts

    def _counts(self, detections: Detections, frame: int) -> Iterator[Count]:
        if detections.tracker_id is None:
            return
        ids = detections.tracker_id.tolist()
        for tracker_id, detection in zip(ids, detections, strict=True):
            if tracker_id < 0:
                continue
            x1, _, x2, y2 = detection.xyxy.tolist()
            now = ((x1 + x2) / 2, y2)
            before, _ = self._last.pop(tracker_id, (now, 0))
            self._last[tracker_id] = now, frame
            for name, place in self._places.items():
                direction = place.crossing(before, now)
                if direction is not None:
                    yield Count(frame, detections.seconds, tracker_id, detection.class_name, name, direction, *now)


def _side(point: np.ndarray, start: np.ndarray | Point, along: np.ndarray) -> float:
    across = point - np.asarray(start)
    return float(along[0] * across[1] - along[1] * across[0])


def _listed(points: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in points)
