"""Tracking: which detection of a frame is which object of the frames before, by ByteTrack's two rounds of matching."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

try:
    from scipy.optimize import linear_sum_assignment
except ModuleNotFoundError:
    raise ModuleNotFoundError("tracking needs SciPy; run `pip install scipy`", name="scipy") from None

from frcnn.evaluation.matching import iou_matrix
from frcnn.inference.results import Detections
from frcnn.tracking import kalman
from frcnn.tracking.kalman import KalmanState

UNKNOWN = -1
"""The tracker_id of a detection that belongs to no track, or to one that has been seen in one frame only."""


@dataclass(frozen=True)
class TrackerSettings:
    """How detections become tracks."""

    threshold: float = 0.5
    """Score from which a detection starts a track and takes part in the first round."""
    low_threshold: float = 0.1
    """Score from which a detection continues a track, in the second round."""
    first_iou: float = 0.2
    """Least IoU of a detection with the predicted box, in the first round."""
    second_iou: float = 0.5
    new_iou: float = 0.3
    """For tracks that were seen in one frame only."""
    track_buffer: float = 30
    """Frames for which a track is kept while its object is not detected."""


@dataclass(frozen=True)
class Tracks:
    """The objects that are tracked, as arrays with T rows."""

    state: KalmanState
    class_id: np.ndarray
    """(T,) int."""
    tracker_id: np.ndarray
    """(T,) int; UNKNOWN until the track is seen in a second frame."""
    missed: np.ndarray
    """(T,) float: frames since the last detection."""
    next_id: int
    is_first: bool
    """Whether no frame has come yet. Objects of the first frame need no second one."""

    def __len__(self) -> int:
        return len(self.class_id)

    def take(self, rows: np.ndarray) -> Tracks:
        """Some of the tracks."""
        state = KalmanState(self.state.mean[rows], self.state.covariance[rows])
        return replace(
            self, state=state, class_id=self.class_id[rows], tracker_id=self.tracker_id[rows], missed=self.missed[rows]
        )


def no_tracks() -> Tracks:
    """Before the first frame."""
    nobody = np.zeros(0, np.int64)
    return Tracks(kalman.start(np.zeros((0, 4))), nobody, nobody, np.zeros(0), 1, True)


def update_tracks(
    tracks: Tracks, detections: Detections, settings: TrackerSettings, *, frames: float = 1
) -> tuple[Tracks, np.ndarray]:
    """Match the detections of a frame with the tracks.

    Detections of a class continue tracks of this class only. Round one matches detections above `threshold` with all
    tracks that were confirmed by a second frame, by the IoU with the predicted boxes. Round two matches the other
    detections with the tracks that are left: an object that is partly hidden has a low score. Then
    tracks that have been seen once are matched with what is left of round one, and the rest starts new tracks.

    Args:
        frames: how many frames after the last one.

    Returns:
        The tracks after this frame, and (N,) int: the tracker_id of each detection.

    Source:
        Zhang et al. 2022, arXiv:2110.06864, algorithm 1, with the IoU thresholds of its code. Differs: classes are not
        mixed, scores do not change the IoU, tracks that overlap are kept, and new tracks start at `threshold`, not at
        `threshold` + 0.1. The code of the paper matches low scores only with tracks of the last frame; the paper and
        this function, with all.
    """
    tracks = replace(tracks, state=kalman.predict(tracks.state, frames), missed=tracks.missed + frames)
    predicted = tracks.state.boxes()
    scores = detections.confidence
    high = np.flatnonzero(scores >= settings.threshold)
    low = np.flatnonzero((scores >= settings.low_threshold) & (scores < settings.threshold))
    is_confirmed = tracks.tracker_id != UNKNOWN

    of_track = np.full(len(tracks), -1)  # the detection of each track
    rounds = (
        (is_confirmed, high, settings.first_iou),
        (is_confirmed, low, settings.second_iou),
        (~is_confirmed, high, settings.new_iou),
    )
    for wanted, offered, least in rounds:
        rows = np.flatnonzero(wanted & (of_track < 0))
        columns = np.setdiff1d(offered, of_track)
        overlaps = iou_matrix(predicted[rows], detections.xyxy[columns])
        overlaps[tracks.class_id[rows, None] != detections.class_id[columns]] = 0
        matched_rows, matched_columns = match(overlaps, least)
        of_track[rows[matched_rows]] = columns[matched_columns]

    ids = np.full(len(detections), UNKNOWN)
    tracks = _continued(tracks, of_track, detections)
    ids[of_track[of_track >= 0]] = tracks.tracker_id[of_track >= 0]
    is_kept = (of_track >= 0) | ((tracks.tracker_id != UNKNOWN) & (tracks.missed <= settings.track_buffer))
    return _with_new(tracks.take(is_kept), np.setdiff1d(high, of_track), detections, ids)


def match(overlaps: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """The pairs with the largest sum of overlaps.

    Args:
        overlaps: (R, C), e.g. IoU.
        least: of a pair; pairs below it are not made.

    Returns:
        Rows and columns of the pairs.
    """
    allowed = np.where(overlaps >= least, overlaps, 0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    is_pair = (allowed[rows, columns] > 0) & (allowed[rows, columns] >= least)
    return rows[is_pair], columns[is_pair]


def _continued(tracks: Tracks, of_track: np.ndarray, detections: Detections) -> Tracks:
    """The tracks, corrected by their detections."""
    rows = np.flatnonzero(of_track >= 0)
    updated = kalman.update(tracks.take(rows).state, detections.xyxy[of_track[rows]])
    mean, covariance = tracks.state.mean.copy(), tracks.state.covariance.copy()
    mean[rows], covariance[rows] = updated
    missed, tracker_id = tracks.missed.copy(), tracks.tracker_id.copy()
    missed[rows] = 0
    mean[missed > 0, 7] = 0  # of a hidden object, the change of its height is unknown
    confirmed = rows[tracker_id[rows] == UNKNOWN]
    tracker_id[confirmed] = tracks.next_id + np.arange(len(confirmed))
    return replace(
        tracks,
        state=KalmanState(mean, covariance),
        missed=missed,
        tracker_id=tracker_id,
        next_id=tracks.next_id + len(confirmed),
    )


def _with_new(
    tracks: Tracks, starting: np.ndarray, detections: Detections, ids: np.ndarray
) -> tuple[Tracks, np.ndarray]:
    """The tracks and new ones. Those of the first frame have their tracker_id at once.

    Args:
        starting: indices of the detections that start a track.
        ids: (N,), changed in place for these.
    """
    state = kalman.start(detections.xyxy[starting])
    new_ids = np.full(len(starting), UNKNOWN)
    if tracks.is_first:
        new_ids = tracks.next_id + np.arange(len(starting))
        ids[starting] = new_ids
    joined = Tracks(
        KalmanState(*(np.concatenate(pair) for pair in zip(tracks.state, state, strict=True))),
        np.concatenate((tracks.class_id, detections.class_id[starting])),
        np.concatenate((tracks.tracker_id, new_ids)),
        np.concatenate((tracks.missed, np.zeros(len(starting)))),
        tracks.next_id + (len(starting) if tracks.is_first else 0),
        False,
    )
    return joined, ids


class Tracker:
    """`update_tracks` with its state: one video, frame after frame."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = settings or TrackerSettings()
        self._tracks = no_tracks()

    def __call__(self, detections: Detections, *, frames: float = 1) -> Detections:
        """The detections above the threshold and those that continue a track, with `tracker_id`.

        Args:
            frames: how many frames after the last one.
        """
        self._tracks, ids = update_tracks(self._tracks, detections, self._settings, frames=frames)
        shown = (ids != UNKNOWN) | (detections.confidence >= self._settings.threshold)
        return replace(detections, tracker_id=ids)[shown]
