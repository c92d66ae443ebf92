"""Augmentation: random changes of a training image, so that no epoch sees quite the same pixels.

An image is scaled by a random factor. If it becomes larger than usual, it is cropped to the usual size at a random
position, so that no step takes longer than without augmentation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance

from frcnn.data.image_cache import ImageReader
from frcnn.data.images import read_to_resize
from frcnn.data.records import Record
from frcnn.data.tiles import clipped
from frcnn.data.transforms import resize
from frcnn.resizing import Resizing, input_size

_SCALES_EACH_SIDE = 4
"""They are few, because PyTorch prepares its kernels anew for each size of image."""


class Augmentation(NamedTuple):
    """What is changed in one image in one epoch; the default changes nothing."""

    flip: bool = False
    """Mirror it left to right."""
    scale: float = 1.0
    """Factor of the size after resizing."""
    position: tuple[float, float] = (0.0, 0.0)
    """Of the crop, if the image becomes too large: x and y, 0 (left, top) to 1 (right, bottom)."""
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


class View(NamedTuple):
    """A window of an image, and what becomes of it."""

    window: tuple[int, int, int, int]
    """xyxy, pixels of the image."""
    size: tuple[int, int]
    """(height, width), input pixels."""
    flip: bool

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width), pixels of the image."""
        x1, y1, x2, y2 = self.window
        return y2 - y1, x2 - x1


def random_augmentation(
    rng: np.random.Generator, *, flip: bool = False, scale_jitter: float = 1.0, color_jitter: float = 0.0
) -> Augmentation:
    """A random augmentation.

    Args:
        flip: whether this image is mirrored.
        scale_jitter: the scale is one of nine values from 1 / scale_jitter to scale_jitter, evenly spaced on a
            logarithmic scale.
        color_jitter: brightness, contrast and saturation are between 1 - color_jitter and 1 + color_jitter.
    """
    x, y, *colors = rng.uniform(size=5).tolist()
    scale = scale_jitter ** (int(rng.integers(-_SCALES_EACH_SIDE, _SCALES_EACH_SIDE + 1)) / _SCALES_EACH_SIDE)
    factors = (1 + color_jitter * (2 * value - 1) for value in colors)
    return Augmentation(flip, scale, (x, y), *factors)


def read_augmented(
    record: Record, resizing: Resizing, change: Augmentation, read: ImageReader = read_to_resize
) -> tuple[np.ndarray, View]:
    """The pixels of an image or tile for training, and which part of it they show; errors as `read_image`."""
    image, original = read(record.image, resizing, record.window)  # large enough also where `change` enlarges it
    zoomed = _zoomed(resizing, change.scale)
    whole, usual = input_size(original, zoomed), input_size(original, resizing)
    size = min(whole[0], usual[0]), min(whole[1], usual[1])
    factor = round(original[0] / image.height)  # a large JPEG is read at a fraction of its size
    x1, x2 = _window(image.width, size[1] / whole[1], change.position[0])
    y1, y2 = _window(image.height, size[0] / whole[0], change.position[1])
    pixels = resize(image.crop((x1, y1, x2, y2)) if size != whole else image, size, resizing)
    pixels = _recolored(pixels, change)
    window = (x1 * factor, y1 * factor, x2 * factor, y2 * factor)
    return pixels[:, ::-1] if change.flip else pixels, View(window, size, change.flip)


def _zoomed(resizing: Resizing, scale: float) -> Resizing:
    if scale == 1:
        return resizing
    sides = ("width", "height", "shorter_side", "longer_side")
    return resizing._replace(**{side: max(1, round(getattr(resizing, side) * scale)) for side in sides})


def _window(pixels: int, fraction: float, position: float) -> tuple[int, int]:
    """Start and end of a part of a line of pixels."""
    length = max(1, round(pixels * fraction))
    start = round((pixels - length) * position)
    return start, start + length


def _recolored(pixels: np.ndarray, change: Augmentation) -> np.ndarray:
    factors = (change.brightness, change.contrast, change.saturation)
    if factors == (1.0, 1.0, 1.0):
        return pixels
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    for enhance, value in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        image = enhance(image).enhance(value)
    return np.asarray(image).astype(pixels.dtype)


def to_view(boxes: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in the view, and which fraction of each is visible.

    Args:
        boxes: (G, 4) xyxy, pixels of the image.

    Returns:
        (G, 4) xyxy, input pixels, clipped; and (G,), 0..1.
    """
    window, (height, width) = np.array(view.window, np.float32), view.size
    inside, visible = clipped(boxes, view.window)
    factors = np.array((width, height), np.float32) / (window[2:] - window[:2])
    low, high = (inside[:, :2] - window[:2]) * factors, (inside[:, 2:] - window[:2]) * factors
    if view.flip:
        low[:, 0], high[:, 0] = width - high[:, 0], width - low[:, 0]
    return np.concatenate((low, high), axis=1), visible
