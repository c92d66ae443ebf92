"""The tracker against that of another package (golden_tracks.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from frcnn.inference.results import Detections
from frcnn.tracking.tracker import Tracker, TrackerSettings

GOLDEN = json.loads((Path(__file__).parent / "golden_tracks.json").read_text())
SEQUENCES = GOLDEN["sequences"]


def tracked(frames: list[list[list[float]]]) -> list[list[int]]:
    settings = TrackerSettings(
        threshold=0.5, low_threshold=0, first_iou=0.2, second_iou=0.2, new_iou=0.2, track_buffer=30
    )
    tracker, ids = Tracker(settings), []
    for frame in frames:
        rows = np.array(frame, np.float32).reshape(-1, 5)
        found = tracker(Detections(rows[:, :4], rows[:, 4], np.zeros(len(rows), np.int64), ("object",)))
        assert found.tracker_id is not None
        of_box = dict(zip(map(tuple, found.xyxy.tolist()), found.tracker_id.tolist(), strict=True))
        ids.append([of_box.get(tuple(box), -1) for box in rows[:, :4].tolist()])
    return ids


def agreement(ours: list[list[int]], theirs: list[list[int]]) -> float:
    """Share of the detections that have the same identity, with the best pairs of identities; the first frame, in which
    only our objects have one, does not count."""
    one, other = (np.array([number for frame in ids[1:] for number in frame]) for ids in (ours, theirs))
    pairs = np.zeros((one.max() + 2, other.max() + 2))
    np.add.at(pairs, (one + 1, other + 1), 1)
    nobody, identities = pairs[0, 0], pairs[1:, 1:]
    return float((nobody + identities[linear_sum_assignment(-identities)].sum()) / len(one))


@pytest.mark.parametrize("number", range(len(SEQUENCES)))
def test_objects_keep_the_identity_that_they_have_there(number: int) -> None:
    sequence = SEQUENCES[number]
    assert agreement(tracked(sequence["frames"]), sequence["tracker_id"]) == 1
