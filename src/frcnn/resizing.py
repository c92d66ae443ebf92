"""How an image becomes the detector's input: the size that it is resized to, and the frame that it is put into."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Resizing(NamedTuple):
    """How an image becomes the detector's input."""

    resize: str
    """"fit": scaled to fit width x height, which is the frame; "shorter_side": scaled until the shorter side has
    `shorter_side` pixels, or the longer one `longer_side`."""
    width: int = 0
    height: int = 0
    shorter_side: int = 0
    longer_side: int = 0
    divisor: int = 1
    """With "shorter_side", the frame's sides are multiples of it."""
    antialias: bool = True
    """False: bilinear without antialiasing, between four pixels, not rounded."""
    fixed_point: bool = False
    """Without antialiasing: in whole numbers as OpenCV, with weights that are multiples of 1/2048, to 8 bits."""
    rounding: str | None = None
    """How the sides of a resized image become whole: "even", halves to the even number; "down"; "half_up";
    "detectron2", halves up, with detectron2's arithmetic. None: "even" with antialiasing, else "down"."""
    reduced_decoding: bool = True
    """With antialiasing, a large JPEG may be decoded at a fraction of its size."""
    tile: int = 0
    """Larger images are cut into tiles of at most this side, pixels of the image; 0: they are not. Each tile is then
    resized like an image."""


def input_size(original: tuple[int, int], settings: Resizing) -> tuple[int, int]:
    """The (height, width) to which an image is resized.

    Source:
        "fit": CNTK's tutorial; "shorter_side": Ren et al. 2015, section 3.3 (600, at most 1000). torchvision's
        detectors round sizes down. detectron2 (ResizeShortestEdge) applies the longer side's limit in a second step.
    """
    height, width = original
    if settings.resize == "shorter_side" and settings.rounding == "detectron2":
        return _detectron2_size(original, settings)
    if settings.resize == "fit":
        scale = min(settings.height / height, settings.width / width)
    else:
        scale = min(settings.shorter_side / min(original), settings.longer_side / max(original))
    whole = _ROUNDINGS[settings.rounding or ("even" if settings.antialias else "down")]
    return max(1, whole(height * scale)), max(1, whole(width * scale))


def _half_up(side: float) -> int:
    return int(side + 0.5)


_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "even": round,
    "down": math.floor,
    "half_up": _half_up,
    "detectron2": _half_up,
}
ROUNDINGS = tuple(_ROUNDINGS)


def _detectron2_size(original: tuple[int, int], settings: Resizing) -> tuple[int, int]:
    """With the roundings of each step: an exact half may come out a little smaller, and is rounded down then."""
    scale = settings.shorter_side / min(original)
    height, width = (settings.shorter_side if side == min(original) else scale * side for side in original)
    if max(height, width) > settings.longer_side:
        scale = settings.longer_side / max(height, width)
        height, width = height * scale, width * scale
    return max(1, _half_up(height)), max(1, _half_up(width))


def frame_size(sizes: Sequence[tuple[int, int]], settings: Resizing) -> tuple[int, int]:
    """The (height, width) of the frame for images that were resized to these (height, width)."""
    if settings.resize == "fit":
        return settings.height, settings.width
    height, width = (math.ceil(max(side) / settings.divisor) * settings.divisor for side in zip(*sizes, strict=True))
    return height, width
