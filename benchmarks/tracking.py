"""How well objects are tracked: HOTA, IDF1 and MOTA on the toy data set in motion; write benchmarks/tracking.md.

    python benchmarks/tracking.py RUN_DIR [--videos 5] [--frames 200]

RUN_DIR is a run on the toy data set (`frcnn demo`). In each video (benchmarks/compare/moving_toy.py), eight objects of
three classes move on two shelves and hide one another. The detections of each frame are found once, with all scores
from 0.1; every tracker gets the same ones. Trackers and metrics are compared by the package `trackers`:
`pip install trackers` (Apache-2.0; needs OpenCV and PyAV, so use an environment of its own).
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from compare.machine import machine
from compare.moving_toy import Truth, moving_toy

import frcnn
from frcnn.inference.results import Detections
from frcnn.tracking.tracker import Tracker, TrackerSettings

HERE = Path(__file__).parent
THRESHOLD = 0.5
Rows = list[tuple[int, int, np.ndarray]]
"""(frame, identity, box) of a video."""


class Video(NamedTuple):
    """What is known of a video, once it has been seen by the detector."""

    truths: Sequence[Sequence[Truth]]
    detections: Sequence[Detections]


# ------------------------------------------------------------------------------------------------------------ trackers


def ours(video: Video, *, low: float = 0.1) -> Rows:
    tracker = Tracker(TrackerSettings(threshold=THRESHOLD, low_threshold=low))
    rows: Rows = []
    for frame, detections in enumerate(video.detections):
        found = tracker(detections)
        assert found.tracker_id is not None
        rows += zip([frame] * len(found), found.tracker_id.tolist(), found.xyxy, strict=True)
    return rows


def theirs(video: Video) -> Rows:
    """ByteTrack of the package `trackers`, for each class, with its own settings but our threshold."""
    import supervision
    from trackers import ByteTrackTracker

    rows: Rows = []
    for class_id in range(len(video.detections[0].classes)):
        tracker = ByteTrackTracker(track_activation_threshold=THRESHOLD, high_conf_det_threshold=THRESHOLD)
        for frame, every_class in enumerate(video.detections):
            each = every_class[every_class.class_id == class_id]
            found = tracker.update(supervision.Detections(each.xyxy, confidence=each.confidence))
            ids = np.where(found.tracker_id < 0, -1, found.tracker_id + 1000 * class_id)
            shown = (ids >= 0) | (found.confidence >= THRESHOLD)
            rows += zip([frame] * shown.sum(), ids[shown].tolist(), found.xyxy[shown], strict=True)
    return rows


TRACKERS: dict[str, Callable[[Video], Rows]] = {
    "frcnn": ours,
    "frcnn, without low scores": lambda video: ours(video, low=THRESHOLD),
    "ByteTrack of `trackers`": theirs,
}


# -------------------------------------------------------------------------------------------------------------- scores


def write_mot(file: Path, rows: Iterable[tuple[int, int, Sequence[float]]]) -> None:
    """The text format of MOTChallenge. Rows without identity are not in it."""
    lines = [
        f"{frame + 1},{identity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,1,1"
        for frame, identity, (x1, y1, x2, y2) in rows
        if identity >= 0
    ]
    file.write_text("\n".join(lines) + "\n")


def scores(videos: Sequence[Video], follow: Callable[[Video], Rows]) -> dict[str, float]:
    from trackers.eval import evaluate_mot_sequences

    with tempfile.TemporaryDirectory() as name:
        for kind in ("true", "found"):
            (Path(name) / kind).mkdir()
        for number, video in enumerate(videos):
            true = [(frame, each.identity, each.box) for frame, truths in enumerate(video.truths) for each in truths]
            write_mot(Path(name) / "true" / f"{number}.txt", true)
            write_mot(Path(name) / "found" / f"{number}.txt", follow(video))
        found = evaluate_mot_sequences(
            Path(name) / "true", Path(name) / "found", metrics=["CLEAR", "HOTA", "Identity"]
        ).aggregate
    return {
        "HOTA": found.HOTA.HOTA,
        "DetA": found.HOTA.DetA,
        "AssA": found.HOTA.AssA,
        "IDF1": found.Identity.IDF1,
        "MOTA": found.CLEAR.MOTA,
        "identity switches": found.CLEAR.IDSW,
    }


def watch(detector: frcnn.Detector, seed: int, frames: int) -> Video:
    images, truths = zip(*moving_toy(seed, frames=frames), strict=True)
    return Video(truths, list(detector.predict(images, threshold=0.1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN_DIR")
    parser.add_argument("--videos", type=int, default=5)
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="trackers")
    detector, start = frcnn.load(options.run), time.monotonic()
    videos = []
    for seed in range(options.videos):
        videos.append(watch(detector, seed, options.frames))
        print(f"video {seed + 1} of {options.videos}: {time.monotonic() - start:.0f} s", flush=True)
    found = {name: scores(videos, follow) for name, follow in TRACKERS.items()}
    (HERE / "tracking.json").write_text(json.dumps(found, indent=2) + "\n")
    names = list(next(iter(found.values())))
    table = [f"| tracker | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for tracker, values in found.items():
        cells = [f"{values[name]:.0f}" if "switches" in name else f"{values[name]:.3f}" for name in names]
        table.append(f"| {tracker} | {' | '.join(cells)} |")
    objects = sum(len(truths) for video in videos for truths in video.truths)
    text = f"""# How well objects are tracked

{options.videos} videos of {options.frames} frames: groceries of the toy data set that move on shelves and hide one
another, eight objects of three classes in each (seeds 0 to {options.videos - 1}; {objects:,} true boxes, of objects of
which 20 % or more can be seen). All trackers get the same detections, and take {THRESHOLD} as the threshold of the
score. Detections without a `tracker_id` are left out. Metrics: `trackers` {version("trackers")}, HOTA with all classes
together. `benchmarks/tracking.py` writes this file.

{chr(10).join(table)}

Machine: {machine()}.
"""
    (HERE / "tracking.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
