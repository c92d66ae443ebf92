"""Which detection is which object."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from frcnn.inference.results import Detections
from frcnn.tracking import kalman
from frcnn.tracking.tracker import UNKNOWN, Tracker, TrackerSettings, match

CLASSES = ("car", "person")


def frame(*objects: tuple[float, float, float, int]) -> Detections:
    """Boxes of 40 x 60 pixels at (x, y), with score and class."""
    corner = np.array([each[:2] for each in objects], np.float32).reshape(-1, 2)
    boxes = np.concatenate((corner, corner + np.array([40, 60])), axis=1).astype(np.float32)
    scores = np.array([each[2] for each in objects], np.float32)
    return Detections(boxes, scores, np.array([each[3] for each in objects], np.int64), CLASSES)


def ids(tracker: Tracker, *objects: tuple[float, float, float, int], frames: float = 1) -> list[int]:
    found = tracker(frame(*objects), frames=frames).tracker_id
    assert found is not None
    return found.tolist()


def test_objects_that_move_keep_their_identity() -> None:
    tracker = Tracker()
    for time in range(30):
        left, right = (10 + 8 * time, 50, 0.9, 0), (400 - 8 * time, 200, 0.8, 0)
        objects = [left, right] if time % 2 else [right, left]
        assert ids(tracker, *objects) == ([2, 1] if time % 2 else [1, 2])


def test_an_object_that_hides_comes_back_with_its_identity() -> None:
    tracker = Tracker()
    for time in range(10):
        assert ids(tracker, (10 + 8 * time, 50, 0.9, 0)) == [1]
    for _ in range(10):
        assert ids(tracker) == []
    assert ids(tracker, (10 + 8 * 20, 50, 0.9, 0)) == [1]  # where constant velocity leads


def test_an_object_that_hides_too_long_is_a_new_one() -> None:
    tracker = Tracker(TrackerSettings(track_buffer=5))
    ids(tracker, (10, 50, 0.9, 0))
    for _ in range(6):
        ids(tracker)
    assert ids(tracker, (10, 50, 0.9, 0)) == [UNKNOWN]
    assert ids(tracker, (10, 50, 0.9, 0)) == [2]


def test_a_low_score_continues_a_track_and_starts_none() -> None:
    tracker = Tracker()
    ids(tracker, (10, 50, 0.9, 0))
    assert ids(tracker, (12, 50, 0.2, 0), (300, 50, 0.3, 0)) == [1]
    assert ids(tracker, (14, 50, 0.05, 0)) == []
    assert ids(tracker, (16, 50, 0.9, 0)) == [1]


def test_a_new_object_has_an_identity_from_its_second_frame_on() -> None:
    tracker = Tracker()
    ids(tracker)
    assert ids(tracker, (10, 50, 0.9, 0)) == [UNKNOWN]
    assert ids(tracker, (12, 50, 0.9, 0)) == [1]


def test_a_flash_gets_no_identity() -> None:
    tracker = Tracker()
    ids(tracker, (300, 300, 0.9, 0))
    assert ids(tracker, (10, 50, 0.9, 0), (300, 300, 0.9, 0)) == [UNKNOWN, 1]
    assert ids(tracker, (300, 300, 0.9, 0)) == [1]
    assert ids(tracker, (10, 50, 0.9, 0), (300, 300, 0.9, 0)) == [UNKNOWN, 1]


def test_classes_are_not_mixed() -> None:
    tracker = Tracker()
    assert ids(tracker, (10, 50, 0.9, 0)) == [1]
    assert ids(tracker, (10, 50, 0.9, 1)) == [UNKNOWN]


def test_skipped_frames_count_for_speed_and_memory() -> None:
    tracker = Tracker()
    for time in range(0, 40, 4):
        assert ids(tracker, (10 + 6 * time, 50, 0.9, 0), frames=4) == [1]
    short = Tracker(TrackerSettings(track_buffer=5))
    ids(short, (10, 50, 0.9, 0))
    ids(short, frames=4)
    ids(short, frames=4)
    assert ids(short, (10, 50, 0.9, 0), frames=4) == [UNKNOWN]


def test_nothing_and_an_empty_video() -> None:
    tracker = Tracker()
    empty = Detections.empty(CLASSES)
    for _ in range(3):
        assert len(tracker(empty)) == 0


def test_detections_keep_their_image_and_can_be_indexed() -> None:
    found = Tracker()(replace(frame((10, 50, 0.9, 0), (200, 50, 0.8, 1)), path="a.jpg"))
    assert found.path == "a.jpg"
    assert found[found.class_name == "person"].tracker_id == [2]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 1000), st.floats(0.05, 0.9))
def test_pairs_are_the_best_that_are_allowed(rows: int, columns: int, seed: int, least: float) -> None:
    overlaps = np.random.default_rng(seed).random((rows, columns))
    first, second = match(overlaps, least)
    assert len(set(first)) == len(set(second)) == len(first)
    assert (overlaps[first, second] >= least).all()
    allowed = np.where(overlaps >= least, overlaps, 0)
    best = allowed[linear_sum_assignment(-allowed)].sum()
    assert overlaps[first, second].sum() == pytest.approx(best)


# ------------------------------------------------------------------------------------------------------- Kalman filter


def textbook(boxes: np.ndarray) -> np.ndarray:
    """One track by the textbook's formulas, with loops and inverses. Returns the last state."""
    height = boxes[0, 3] - boxes[0, 1]
    mean = np.zeros(8)
    mean[:4] = measure(boxes[0])
    covariance = np.diag(
        np.square([height / 10, height / 10, 1e-2, height / 10, *[height / 16] * 2, 1e-5, height / 16])
    )
    transition, observation = np.eye(8), np.eye(4, 8)
    transition[:4, 4:] = np.eye(4)
    for box in boxes[1:]:
        height = mean[3]
        noise = np.square([height / 20, height / 20, 1e-2, height / 20, *[height / 160] * 2, 1e-5, height / 160])
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + np.diag(noise)
        height = mean[3]
        innovation = observation @ covariance @ observation.T
        innovation += np.diag(np.square([height / 20, height / 20, 1e-1, height / 20]))
        gain = covariance @ observation.T @ np.linalg.inv(innovation)
        mean = mean + gain @ (measure(box) - observation @ mean)
        covariance = covariance - gain @ innovation @ gain.T
    return mean


def measure(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


@given(st.integers(0, 1000))
def test_the_filter_is_the_textbooks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 300, (3, 2))
    paths = starts[:, None] + np.arange(8)[:, None] * rng.uniform(-9, 9, (3, 1, 2)) + rng.normal(0, 1, (3, 8, 2))
    sides = rng.uniform(20, 80, (3, 1, 2)) + rng.normal(0, 1, (3, 8, 2))
    boxes = np.concatenate((paths, paths + sides), axis=2)
    state = kalman.start(boxes[:, 0])
    for time in range(1, 8):
        state = kalman.update(kalman.predict(state, 1), boxes[:, time])
    for track in range(3):
        np.testing.assert_allclose(state.mean[track], textbook(boxes[track]), rtol=1e-9, atol=1e-9)


def test_two_frames_at_once_are_as_far_as_two_frames() -> None:
    state = kalman.start(np.array([[0.0, 0, 40, 60]]))
    for time in range(1, 20):
        state = kalman.update(kalman.predict(state, 1), np.array([[5.0 * time, 0, 5 * time + 40, 60]]))
    twice = kalman.predict(kalman.predict(state, 1), 1)
    np.testing.assert_allclose(kalman.predict(state, 2).mean, twice.mean)
    np.testing.assert_allclose(twice.boxes(), [[105, 0, 145, 60]], atol=1.5)
