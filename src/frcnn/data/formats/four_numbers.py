"""What the four numbers of boxes mean: corners or sides, pixels or fractions. (Helper, not a format.)"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from frcnn.data.images import UNREADABLE, image_size
from frcnn.data.problems import Problem, ProblemKind


def are_corners(boxes: Sequence[tuple[Path, Sequence[float]]]) -> bool:
    """Whether four numbers are x1, y1, x2, y2, not x, y, width, height, because fewer boxes leave their images so.

    Args:
        boxes: the image and the four numbers of each box.
    """
    numbers = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
    if not len(boxes) or (numbers[:, 2:] > numbers[:, :2]).all(axis=1).mean() <= 0.95:
        return False
    sizes: dict[Path, tuple[float, ...]] = {}
    for image in dict.fromkeys(image for image, _ in boxes):
        with suppress(*UNREADABLE):
            sizes[image] = (1, 1) if (numbers <= 1).all() else image_size(image)[::-1]
    limits = np.array([sizes.get(image, (np.inf, np.inf)) for image, _ in boxes]) * 1.01 + 1e-6
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
