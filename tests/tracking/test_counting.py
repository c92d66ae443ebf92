"""Objects that cross lines and enter zones."""

from dataclasses import replace

import numpy as np
import pytest

from frcnn.inference.results import Detections
from frcnn.tracking.counting import Counter, Direction, Line, Point, Zone

DOWN = Line([100, 0, 100, 200])  # somebody who walks down sees larger x on the left


@pytest.mark.parametrize(
    ("before", "now", "direction"),
    [
        ((90, 100), (110, 100), "right to left"),
        ((110, 100), (90, 100), "left to right"),
        ((90, 100), (95, 100), None),
        ((110, 100), (300, 180), None),
        ((90, 210), (110, 210), None),  # beside the end of the line
        ((90, -10), (110, -10), None),
        ((90, 150), (110, 260), None),  # at x = 100, it is at y = 205
        ((100, 100), (100, 100), None),
        ((0, 100), (1000, 100), "right to left"),
    ],
)
def test_a_line(before: Point, now: Point, direction: Direction | None) -> None:
    assert DOWN.crossing(before, now) == direction


def test_a_movement_and_its_return_are_opposite() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        line = Line(rng.uniform(0, 100, 4).tolist())
        before, now = (tuple(rng.uniform(0, 100, 2).tolist()) for _ in range(2))
        there, back = line.crossing(before, now), line.crossing(now, before)
        assert {there, back} in ({None}, {"left to right", "right to left"})


@pytest.mark.parametrize(
    ("point", "is_in"), [((50, 50), True), ((10, 50), True), ((90, 90), False), ((150, 50), False)]
)
def test_a_zone(point: Point, is_in: bool) -> None:
    zone = Zone([0, 0, 100, 0, 100, 60, 60, 60, 60, 100, 0, 100])  # an L
    outside = (500.0, 500.0)
    assert zone.crossing(outside, point) == ("in" if is_in else None)
    assert zone.crossing(point, outside) == ("out" if is_in else None)


def seen(*objects: tuple[int, float, float], seconds: float = 0) -> Detections:
    boxes = np.array([[x - 5, y - 20, x + 5, y] for _, x, y in objects], np.float32).reshape(-1, 4)
    count = len(objects)
    found = Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int64), ("car",))
    return replace(found, tracker_id=np.array([each[0] for each in objects], np.int64), seconds=seconds)


def test_each_object_is_counted_where_it_stands() -> None:
    counter = Counter({"line 1": DOWN, "zone 1": Zone([0, 0, 50, 0, 50, 200, 0, 200])})
    assert counter(seen((1, 90, 100), (2, 110, 100), (-1, 90, 50)), frame=0) == []
    assert counter(seen((1, 110, 100), (-1, 110, 50), seconds=1), frame=5) == [
        (5, 1, 1, "car", "line 1", "right to left", 110, 100)
    ]
    assert counter(seen((2, 20, 100), seconds=2), frame=10) == [
        (10, 2, 2, "car", "line 1", "left to right", 20, 100),
        (10, 2, 2, "car", "zone 1", "in", 20, 100),
    ]


def test_objects_that_left_take_no_memory() -> None:
    counter = Counter({"line 1": DOWN})
    for frame in range(30_000):
        counter(seen((frame // 3, 90, 100)), frame=frame)
    assert len(counter._last) < 3500


def test_detections_that_are_not_tracked_are_not_counted() -> None:
    counter = Counter({"line 1": DOWN})
    assert counter(replace(seen((1, 90, 100)), tracker_id=None), frame=0) == []


@pytest.mark.parametrize("points", [[1, 2, 3], [1, 2, 1, 2], []])
def test_a_wrong_line(points: list[float]) -> None:
    with pytest.raises(ValueError, match="must be x1,y1,x2,y2 in pixels, two different points"):
        Line(points)


@pytest.mark.parametrize("points", [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]])
def test_a_wrong_zone(points: list[float]) -> None:
    with pytest.raises(ValueError, match="three points or more"):
        Zone(points)
