"""How an image becomes the detector's input: the size that it is resized to, and the frame that it is put into."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    tile: int = 0
    """Larger images are cut into tiles of at most this side, pixels of the image; 0: they are not. Each tile is then
    resized like an image."""


def input_size(original: tuple[int, int], settings: Resizing) -> tuple[int, int]:
    """The (height, width) to which an image is resized.

    Source:
        "fit": CNTK's tutorial; "shorter_side": Ren et al. 2015, section 3.3 (600, at most 1000). Sizes are rounded; for
        images without antialiasing they are rounded down, as in torchvision's detectors.
    """
    height, width = original
    if settings.resize == "fit":
        scale = min(settings.height / height, settings.width / width)
    else:
        scale = min(settings.shorter_side / min(original), settings.longer_side / max(original))
    whole = round if settings.antialias else math.floor
    return max(1, whole(height * scale)), max(1, whole(width * scale))


def frame_size(sizes: Sequence[tuple[int, int]], settings: Resizing) -> tuple[int, int]:
    """The (height, width) of the frame for images that were resized to these (height, width)."""
    if settings.resize == "fit":
        return settings.height, settings.width
    height, width = (math.ceil(max(side) / settings.divisor) * settings.divisor for side in zip(*sizes, strict=True))
    return height, width
