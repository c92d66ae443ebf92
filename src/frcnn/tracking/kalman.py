"""A Kalman filter for boxes that move with constant velocity; all tracks at once, as pure functions.

The state of a track is (cx, cy, a, h) and its change per frame: center and height in pixels, a = width / height. T is
the number of tracks.

Source:
    Wojke et al. 2017, arXiv:1703.07402, section 2.1, with the noise of its code, which ByteTrack uses too. Differs: the
    time between two frames may vary, so that frames can be skipped.
"""

from typing import NamedTuple

import numpy as np

_POSITION, _VELOCITY = 1 / 20, 1 / 160
"""Standard deviations of center and height, and of their change per frame, as fractions of the height."""
_SHAPE, _SHAPE_VELOCITY, _MEASURED_SHAPE = 1e-2, 1e-5, 1e-1
"""Standard deviations of a, of its change per frame, and of a in a detection."""
_SMALLEST = 1e-3


class KalmanState(NamedTuple):
    """What is known of each track."""

    mean: np.ndarray
    """(T, 8): cx, cy, a, h, and their change per frame."""
    covariance: np.ndarray
    """(T, 8, 8)"""

    def boxes(self) -> np.ndarray:
        """(T, 4): x1, y1, x2, y2."""
        center = self.mean[:, :2]
        height = self.mean[:, 3].clip(_SMALLEST)
        half = np.stack((self.mean[:, 2].clip(_SMALLEST) * height, height), axis=1) / 2
        return np.concatenate((center - half, center + half), axis=1)


def start(boxes: np.ndarray) -> KalmanState:
    """New tracks that stand still.

    Args:
        boxes: (T, 4), where they were detected.
    """
    measured = _measured(boxes)
    deviations = _deviations(measured[:, 3], 2 * _POSITION, _SHAPE, 10 * _VELOCITY, _SHAPE_VELOCITY)
    return KalmanState(np.concatenate((measured, np.zeros_like(measured)), axis=1), _diagonal(deviations))


def predict(state: KalmanState, frames: float) -> KalmanState:
    """Where the tracks should be after `frames` frames; not a whole number if frames come irregularly."""
    transition = np.eye(8)
    transition[:4, 4:] = frames * np.eye(4)
    deviations = _deviations(state.mean[:, 3].clip(_SMALLEST), _POSITION, _SHAPE, _VELOCITY, _SHAPE_VELOCITY)
    noise = frames * _diagonal(deviations)
    return KalmanState(state.mean @ transition.T, transition @ state.covariance @ transition.T + noise)


def update(state: KalmanState, boxes: np.ndarray) -> KalmanState:
    """Correct each track by its detection.

    Args:
        boxes: (T, 4).
    """
    height = state.mean[:, 3].clip(_SMALLEST)
    noise = _diagonal(_deviations(height, _POSITION, _MEASURED_SHAPE, 0, 0)[:, :4])
    innovation = state.covariance[:, :4, :4] + noise
    gain = np.linalg.solve(innovation, state.covariance[:, :4, :]).swapaxes(1, 2)  # (T, 8, 4)
    difference = _measured(boxes) - state.mean[:, :4]
    mean = state.mean + np.einsum("tij,tj->ti", gain, difference)
    return KalmanState(mean, state.covariance - gain @ innovation @ gain.swapaxes(1, 2))


def _measured(boxes: np.ndarray) -> np.ndarray:
    """(T, 4): cx, cy, a, h."""
    corners = boxes.astype(np.float64)
    width, height = (corners[:, 2:] - corners[:, :2]).clip(_SMALLEST).T
    center = (corners[:, :2] + corners[:, 2:]) / 2
    return np.column_stack((center, width / height, height))


def _deviations(
    height: np.ndarray, position: float, shape: float, velocity: float, shape_velocity: float
) -> np.ndarray:
    """(T, 8): standard deviations."""
    own, ones = position * height, np.ones_like(height)
    change = velocity * height
    return np.stack((own, own, shape * ones, own, change, change, shape_velocity * ones, change), axis=1)


def _diagonal(deviations: np.ndarray) -> np.ndarray:
    """(T, N, N): variances on the diagonal."""
    return np.eye(deviations.shape[1]) * (deviations**2)[:, None]
