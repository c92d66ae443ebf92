"""How large objects are at the input, each one in its own image.

Where images differ in size, the small objects may be in the large images. So figures of all objects are not combined
with figures of all images.

Letters: N images, G objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from frcnn.config import ImageSettings
from frcnn.data.records import Record
from frcnn.data.tiles import size_of

LARGEST_INPUT = 1024
"""Longer side, pixels. The time of a step grows with the area."""
MOST_ENLARGED = 2
"""An image is enlarged at most by this factor, because no detail appears."""
_SMALL = 0.25  # of the objects


class Sizes(NamedTuple):
    """The sizes of images, and of the objects in them that are not ignored."""

    size: np.ndarray
    """(G,): square root of the area of each object, pixels."""
    image: np.ndarray
    """(G,): the index of its image."""
    sides: np.ndarray
    """(N, 2): shorter and longer side of each image, pixels."""

    def at_input(self, shorter_side: int, longer_side: int) -> float:
        """The size of small objects at this input, pixels: a quarter of the objects are smaller."""
        return _small(self.size * self._scales(shorter_side, longer_side)[self.image])

    def at_largest_input(self, image: ImageSettings) -> float:
        """The size of small objects if images are scaled as a whole to the largest input, pixels: a quarter of the
        objects are smaller."""
        return _small(self._at_largest_input(image))

    def images_of_small(self, image: ImageSettings) -> np.ndarray:
        """Indices of the images that are about as large as those with the small objects: at least half as large. Where
        all images are of a similar size, these are all."""
        longer, sizes = self.sides[:, 1], self._at_largest_input(image)
        small = sizes <= np.quantile(sizes, _SMALL)
        return np.flatnonzero(longer >= np.median(longer[self.image[small]]) / 2)

    def _at_largest_input(self, image: ImageSettings) -> np.ndarray:
        """(G,), pixels."""
        scales = self._scales(LARGEST_INPUT * image.shorter_side / image.longer_side, LARGEST_INPUT)
        return self.size * np.minimum(scales, MOST_ENLARGED)[self.image]

    def _scales(self, shorter_side: float, longer_side: float) -> np.ndarray:
        """(N,): how many times as large each image becomes at this input."""
        scales: np.ndarray = np.min((shorter_side, longer_side) / self.sides, axis=1)
        return scales


def sizes_of(records: Sequence[Record]) -> Sizes:
    """The sizes of these images, or tiles, and of their objects."""
    boxes = [record.boxes[~record.ignore] for record in records]
    sides = np.concatenate([np.zeros((0, 4)), *boxes]).reshape(-1, 2, 2)
    return Sizes(
        np.sqrt((sides[:, 1] - sides[:, 0]).prod(axis=1)),
        np.repeat(np.arange(len(boxes)), [len(each) for each in boxes]),
        np.sort(np.array([size_of(record) for record in records], float).reshape(-1, 2), axis=1),
    )


def _small(sizes: np.ndarray) -> float:
    """Four significant digits, as in a fingerprint."""
    return float(f"{np.quantile(sizes, _SMALL):.4g}")
