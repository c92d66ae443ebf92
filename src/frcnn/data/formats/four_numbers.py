"""What the four numbers of boxes mean: corners or sides, pixels or fractions. (Helper, not a format.)"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frcnn.data.problems import Problem, ProblemKind


def may_be_corners(numbers: np.ndarray) -> bool:
    """Whether most of these (N, 4) numbers are x1, y1, x2, y2 of boxes with an area."""
    return len(numbers) > 0 and bool((numbers[:, 2:] > numbers[:, :2]).all(axis=1).mean() > 0.95)


def are_corners(numbers: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether numbers are x1, y1, x2, y2, not x, y, width, height, because fewer boxes leave their images so.

    Args:
        numbers: (N, 4), see `may_be_corners`.
        sizes: (N, 2), width and height of each one's image; infinite: not known.
    """
    limits = sizes * 1.01 + 1e-6
    outside = (numbers[:, :2] + numbers[:, 2:] > limits).any(axis=1)
    return int(outside.sum()) > int((numbers[:, 2:] > limits).any(axis=1).sum())


def read_as_corners(file: Path) -> Problem:
    """A warning: what `are_corners` decided."""
    message = "boxes of four numbers are read as x1, y1, x2, y2, because as x, y, width, height more leave their images"
    return Problem(ProblemKind.CORNERS, file, message, level="warning")


def are_fractions(boxes: Sequence[Sequence[float]] | np.ndarray) -> bool:
    """Whether boxes, x1, y1, x2, y2, are fractions of the image's sides.

    Most lie in the first two pixels: a box may end outside its image.
    """
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    small = corners[(np.abs(corners) <= 2).all(axis=1)]
    return len(small) > len(corners) / 2 and bool((small % 1 != 0).any())
