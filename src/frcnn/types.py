"""The tuples that cross borders between modules.

Letters: B images in a batch, G ground-truth boxes, N anchors, K proposals or RoIs, D detections, C classes
(without background), H x W pixels of the padded input, A anchors per cell.

Boxes are xyxy, absolute pixels, float32, continuous: width = x2 - x1, an image spans [0, W] x [0, H].
Labels: 0 is background, 1..C are the classes, -1 is "ignore". Sizes are (height, width).
"""

from __future__ import annotations  # exported files are run where torch is not installed

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor


class Frames(NamedTuple):
    """Images as read and resized, each in the upper left corner of a common frame; plain arrays."""

    images: np.ndarray
    """(B, 3, H, W) uint8 or float32, RGB, 0..255."""
    image_sizes: np.ndarray
    """(B, 2) float32, (height, width) inside the frame."""
    original_sizes: np.ndarray
    """(B, 2) float32, (height, width) before resizing."""


class AtOnce(NamedTuple):
    """How many images to give to a detector, so that it detects the most in a second."""

    images: int
    """In one call."""
    calls: int
    """Side by side."""


class Target(NamedTuple):
    """What is in one image."""

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, G]
    difficult: Bool[Tensor, G]
    """Objects that neither train the detector nor count for or against it (Pascal VOC's "difficult")."""


class Batch(NamedTuple):
    """Images as the detector takes them, each in the upper left corner of its padded frame."""

    images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    """RGB, 0..255."""
    image_sizes: Float[Tensor, "B 2"]
    """(height, width) of each image inside the frame, input pixels."""
    original_sizes: Float[Tensor, "B 2"]
    """(height, width) of each image as it was read, before resizing."""
    targets: list[Target]
    """Boxes in input pixels."""
    names: list[str]
    """Where each image came from, for messages."""
    proposals: list[Tensor] | None = None
    """Kept proposals of each image, (K, 4) input pixels, best first; None where the RPN is to make them."""


class Level(NamedTuple):
    """Where the cells of a feature map look: cell i at the input pixel (i + offset) * stride."""

    stride: int
    """Input pixels per cell."""
    offset: float
    """0 is the upper left corner of the cell, 0.5 its centre."""


class RpnOutput(NamedTuple):
    """What the region proposal network says of every anchor, level by level, finest first."""

    logits: Float[Tensor, "B N"]
    deltas: Float[Tensor, "B N 4"]
    anchors: Float[Tensor, "N 4"]
    per_level: list[int]
    """How many of the N anchors are of each level."""


class Proposals(NamedTuple):
    """A fixed number of boxes per image; only those with `valid` count, the others are fillers."""

    boxes: Float[Tensor, "B K 4"]
    """Input pixels, inside the image."""
    scores: Float[Tensor, "B K"]
    """Objectness, 0..1, falling."""
    valid: Bool[Tensor, "B K"]


class RoiOutput(NamedTuple):
    """What the RoI head says of every RoI; column 0 is background."""

    logits: Float[Tensor, "B K 1+C"]
    deltas: Float[Tensor, "B K 1+C 4"]


class Detections(NamedTuple):
    """A fixed number of detections per image; only those with `valid` count, the others are fillers."""

    boxes: Float[Tensor, "B D 4"]
    """Pixels of the original image."""
    scores: Float[Tensor, "B D"]
    """Probability of the class, 0..1, falling."""
    labels: Int[Tensor, "B D"]
    """1..C."""
    valid: Bool[Tensor, "B D"]


class Record(NamedTuple):
    """One image of a data set and what is in it, as the data set says it: no pixels yet."""

    image: Path
    boxes: np.ndarray
    """(G, 4) float32, pixels of the image as a person sees it (after EXIF rotation)."""
    names: tuple[str, ...]
    """The class of each box."""
    difficult: np.ndarray
    """(G,) bool."""
    size: tuple[int, int] | None = None
    """(height, width) of the image as its annotation says, where it does."""


class Annotation(NamedTuple):
    """One object of an image, as its annotation says it and `frcnn annotate` changes it."""

    box: tuple[float, float, float, float]
    """Pixels of the image as a person sees it."""
    name: str
    """Its class."""
    difficult: bool = False
    source: str = ""
    """What its format wrote of it, so that what we do not know of it is kept; empty if it is new."""


class Prediction(NamedTuple):
    """What a detector says of one image; plain arrays, for programs, tables and pictures."""

    image: str
    """Where it came from."""
    boxes: np.ndarray
    """(D, 4) float32, pixels of the original image."""
    scores: np.ndarray
    """(D,) float32, 0..1, falling."""
    names: tuple[str, ...]
    """The class of each box."""


def to_predictions(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    valid: np.ndarray,
    *,
    classes: Sequence[str],
    names: Sequence[str],
) -> list[Prediction]:
    """The detections that count, image by image, with class names instead of labels.

    Args:
        boxes, scores, labels, valid: the arrays of `Detections`.
        classes: label i is classes[i - 1].
        names: of the images.
    """
    return [
        Prediction(
            name, boxes[i][valid[i]], scores[i][valid[i]], tuple(classes[label - 1] for label in labels[i][valid[i]])
        )
        for i, name in enumerate(names)
    ]
