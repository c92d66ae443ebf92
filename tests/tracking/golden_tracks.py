"""Write golden_tracks.json: what ByteTrack of the package `trackers` makes of some detections.

    pip install trackers==2.6.1 && python tests/tracking/golden_tracks.py

It needs OpenCV and PyAV, so it is no dependency of the tests; use an environment of its own.
"""

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import supervision
from trackers import ByteTrackTracker

FILE = Path(__file__).with_suffix(".json")
WIDTH, HEIGHT = 640, 480
FRAMES, OBJECTS, SEQUENCES = 80, 6, 5
SETTINGS = {
    "track_activation_threshold": 0.5,
    "high_conf_det_threshold": 0.5,
    "minimum_iou_threshold": 0.2,
    "lost_track_buffer": 30,
    "frame_rate": 30,
}


def iou(one: np.ndarray, other: np.ndarray) -> float:
    corner = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = corner.clip(0).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


def frames(seed: int) -> list[list[list[float]]]:
    """x1, y1, x2, y2 and score of the detections of each frame: objects that move evenly and bounce, are placed with an
    error, have a low score or are not found where another one is before them; and some false ones."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(50, 110, (OBJECTS, 2))
    room = np.array([WIDTH, HEIGHT]) - size
    start, speed = rng.uniform(0, 1, (OBJECTS, 2)) * room, rng.uniform(-7, 7, (OBJECTS, 2))
    found = []
    for time in range(FRAMES):
        way = (start + speed * time) % (2 * room)
        corner = np.minimum(way, 2 * room - way)
        boxes = np.concatenate((corner, corner + size), axis=1)
        frame = []
        for number in range(OBJECTS):
            is_hidden = any(iou(boxes[number], boxes[nearer]) > 0.2 for nearer in range(number))
            score = rng.uniform(0.15, 0.45) if is_hidden else rng.uniform(0.6, 0.98)
            box = boxes[number] + rng.normal(0, 1.5, 4)
            if not is_hidden or rng.random() < 0.7:
                frame.append([*np.round(box, 1), round(score, 2)])
        if rng.random() < 0.3:
            corner = rng.uniform(0, 1, 2) * room[0]
            frame.append([*np.round([*corner, *(corner + 60)], 1), round(rng.uniform(0.1, 0.6), 2)])
        found.append([[float(value) for value in row] for row in frame])
    return found


def tracked(sequence: list[list[list[float]]]) -> list[list[int]]:
    """tracker_id of each detection; -1: none."""
    tracker, ids = ByteTrackTracker(**SETTINGS), []
    for frame in sequence:
        rows = np.array(frame, np.float32).reshape(-1, 5)
        order = np.arange(len(rows))
        detections = supervision.Detections(rows[:, :4], confidence=rows[:, 4], class_id=order)
        found = tracker.update(detections)
        of_row = dict(zip(found.class_id.tolist(), found.tracker_id.tolist(), strict=True))
        ids.append([of_row.get(row, -1) for row in order.tolist()])
    return ids


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sequences = [frames(seed) for seed in range(SEQUENCES)]
    content = {
        "trackers": version("trackers"),
        "settings": SETTINGS,
        "sequences": [{"frames": each, "tracker_id": tracked(each)} for each in sequences],
    }
    FILE.write_text(json.dumps(content, separators=(",", ":")) + "\n")
