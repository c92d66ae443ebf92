"""From an image to the input of a detector: read, resize, and put several images into one frame. Without torch,
so that exported files get the same pixels where torch is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from frcnn.data.images import read_to_resize
from frcnn.resizing import Resizing, frame_size, input_size

T = TypeVar("T")


class PaddedBatch(NamedTuple):
    """Images as read and resized, each in the upper left corner of a common frame; plain arrays."""

    images: np.ndarray
    """(B, 3, H, W) uint8 or float32, RGB, 0..255."""
    image_sizes: np.ndarray
    """(B, 2) float32, (height, width) without padding."""
    original_sizes: np.ndarray
    """(B, 2) float32, (height, width) before resizing."""


def resize(image: Image.Image, size: tuple[int, int], settings: Resizing) -> np.ndarray:
    """(height, width, 3), 0..255, resized with bilinear filtering.

    Args:
        size: (height, width).
        settings: with or without antialiasing.

    Returns:
        uint8; without antialiasing float32, not rounded to whole numbers, unless `fixed_point`.
    """
    if not settings.antialias and settings.fixed_point:
        return in_fixed_point(np.asarray(image), *size)
    if not settings.antialias:
        pixels = np.asarray(image, np.float32)
        return _with_torch(pixels, *size) if "torch" in sys.modules else at_points(pixels, *size)
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def read_resized(image: Path | Image.Image, settings: Resizing) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image or an image file, and resize it to the input size. Returns its pixels, and its (height, width)
    before."""
    if isinstance(image, Image.Image):
        read, original = image, (image.height, image.width)
    else:
        read, original = read_to_resize(image, settings)
    return resize(read, input_size(original, settings), settings), original


def _with_torch(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """`at_points`, 15 times as fast (5 ms for 1066 x 800 pixels), and what torchvision's detectors do bit by bit."""
    import torch

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)[0]
    return resized.permute(1, 2, 0).contiguous().numpy()


def at_points(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3): bilinear interpolation at the center of each new pixel, without antialiasing."""
    return _rows_at_points(_rows_at_points(pixels.swapaxes(0, 1), width).swapaxes(0, 1), height)


def _rows_at_points(pixels: np.ndarray, count: int) -> np.ndarray:
    """`count` rows, each interpolated between the two nearest rows."""
    centers = (np.arange(count, dtype=np.float32) + 0.5) * (len(pixels) / count) - 0.5
    centers = centers.clip(0, len(pixels) - 1)
    above = np.floor(centers).astype(int)
    below = np.minimum(above + 1, len(pixels) - 1)
    weight = (centers - above).astype(np.float32)[:, None, None]
    return pixels[above] * (1 - weight) + pixels[below] * weight


def in_fixed_point(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3): bilinear interpolation of 8-bit pixels without antialiasing, as OpenCV computes it.

    Source:
        cv2.resize with INTER_LINEAR (opencv, modules/imgproc/src/resize.cpp): horizontally, then vertically, with
        weights of 11 bits. If both sides are halved, the mean of four pixels. Compared with OpenCV 4.14 on x86-64:
        400 images of random sizes, no pixel differed. On Arm, OpenCV may use other code.
    """
    if pixels.shape[:2] == (2 * height, 2 * width):
        wide = pixels.astype(np.int32)
        return ((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)
    (left, right), across = _fixed_point_weights(width, pixels.shape[1], at_border=True)
    rows, down = _fixed_point_weights(height, pixels.shape[0], at_border=False)
    total = np.full((height, width, pixels.shape[2]), 2, np.int32)
    for row, weight in zip(rows, down, strict=True):
        line = pixels[row].astype(np.int32)
        line = line[:, left] * across[0][:, None] + line[:, right] * across[1][:, None]
        total += ((line >> 4) * weight[:, None, None]) >> 16
    return (total >> 2).astype(np.uint8)


def _fixed_point_weights(count: int, length: int, *, at_border: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of `count` new pixels in a line of `length`: the two pixels between which each is, (2, count), and their weights
    in 1/2048, (2, count).

    Args:
        at_border: outside the line, the last pixel alone counts. OpenCV's rows differ from its columns here: there it
            counts twice, with both weights, and both products are rounded.
    """
    place = ((np.arange(count) + 0.5) * (1 / (count / length)) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    second_share = place - first.astype(np.float32)
    if at_border:
        second_share[(first < 0) | (first >= length - 1)] = 0
    shares = np.stack((np.float32(1) - second_share, second_share)) * np.float32(2048)
    pair = np.stack((first, first + 1)).clip(0, length - 1)
    return pair, np.rint(shares).astype(np.int32)


def prepare_images(images: Sequence[Path | Image.Image], settings: Resizing) -> PaddedBatch:
    """Images or image files as the input of a detector: resized, in one frame."""
    resized, originals = zip(*(read_resized(image, settings) for image in images), strict=True)
    return frame(resized, originals, settings)


def batches_by_shape(items: Iterable[T], shape_of: Callable[[T], object], size: int) -> Iterator[list[T]]:
    """Group items in a row whose frames have the same shape, at most `size` to a batch.

    A frame that is larger than its image changes the features near the border a little, because layers see the
    padding. So a batch gives exactly what its images give alone only if no image is padded more than it is alone.

    If an item cannot be made, its error is raised after the batch of the items before it.
    """
    batch: list[T] = []
    shape = None
    try:
        for item in items:
            new_shape = shape_of(item)
            if batch and new_shape != shape:
                yield batch
                batch = []
            shape = new_shape
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def frame(images: Sequence[np.ndarray], originals: Sequence[tuple[int, int]], settings: Resizing) -> PaddedBatch:
    """Put resized images into a common frame, each in the upper left corner.

    Args:
        images: (height, width, 3), all of one type.
        originals: (height, width) before resizing.

    Returns:
        With "fit", frames of the settings' size; else as large as the largest image, sides multiples of `divisor`.
    """
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    height, width = frame_size(sizes, settings)
    frames = np.zeros((len(images), 3, height, width), images[0].dtype)
    for target, image in zip(frames, images, strict=True):
        target[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    return PaddedBatch(frames, np.array(sizes, np.float32), np.array(originals, np.float32))
