"""The upright box around a shape, x1, y1, x2, y2. (Helper, not a format.)"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

Box = tuple[float, float, float, float]


def around_points(xs: Collection[float], ys: Collection[float]) -> Box | None:
    """The box around points; None: there are none."""
    return (min(xs), min(ys), max(xs), max(ys)) if xs and ys else None


def to_corners(box: Sequence[float] | None) -> Box | None:
    """The corners of x, y, width, height; None: there is no box."""
    return None if box is None else (box[0], box[1], box[0] + box[2], box[1] + box[3])


def around_rotated(cx: float, cy: float, width: float, height: float, angle: float) -> Box:
    """The box around a rectangle that is rotated about its center.

    Args:
        angle: in radians; the box is not finite if the angle is not.
    """
    cos, sin = turn(angle)
    x, y = (width * abs(cos) + height * abs(sin)) / 2, (width * abs(sin) + height * abs(cos)) / 2
    return cx - x, cy - y, cx + x, cy + y


def around_ellipse(cx: float, cy: float, rx: float, ry: float, angle: float) -> Box:
    """The box around an ellipse.

    Args:
        rx, ry: its radii.
        angle: by which it is rotated, in radians; the box is not finite if the angle is not.
    """
    cos, sin = turn(angle)
    x, y = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return cx - x, cy - y, cx + x, cy + y


def turn(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle in radians; NaN if it is not finite."""
    angle = angle if math.isfinite(angle) else math.nan
    return math.cos(angle), math.sin(angle)
