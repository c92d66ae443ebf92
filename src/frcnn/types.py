"""The NamedTuples that modules share: batches, proposals, detections.

Letters: B images in a batch, G ground-truth boxes, N anchors, K proposals or RoIs, D detections, C classes
(without background), H x W pixels of the padded input, A anchors per cell.

Boxes are xyxy, absolute pixels, float32, continuous: width = x2 - x1, an image spans [0, W] x [0, H].
Labels: 0 is background, 1..C are the classes, -1 is "ignore". Sizes are (height, width).
"""

from __future__ import annotations  # exported files are run where torch is not installed

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor


class Target(NamedTuple):
    """The ground truth of one image."""

    boxes: Float[Tensor, "G 4"]
    labels: Int[Tensor, G]
    """1..C; -1: an ignored object of a class that is not learned."""
    ignore: Bool[Tensor, G]
    """Objects that neither train the detector nor count for or against it (Pascal VOC's "difficult")."""


class Batch(NamedTuple):
    """The input of the detector: images, each in the upper left corner of the padded frame."""

    images: UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
    """RGB, 0..255."""
    image_sizes: Float[Tensor, "B 2"]
    """(height, width) of each image without padding, input pixels."""
    original_sizes: Float[Tensor, "B 2"]
    """(height, width) of each image as it was read, before resizing."""
    targets: list[Target]
    """Boxes in input pixels."""
    image_names: list[str]
    """Where each image came from, for messages."""
    proposals: list[Tensor] | None = None
    """Stored proposals of each image, (K, 4) input pixels, best first; None: the RPN makes them."""


class Level(NamedTuple):
    """Stride and offset of a feature map: cell i is at the input pixel (i + offset) * stride."""

    stride: int
    """Input pixels per cell."""
    offset: float
    """0 is the upper left corner of the cell, 0.5 its center."""


class RpnOutput(NamedTuple):
    """The output of the region proposal network for every anchor, level by level, finest first."""

    logits: Float[Tensor, "B N"]
    deltas: Float[Tensor, "B N 4"]
    anchors: Float[Tensor, "N 4"]
    per_level: list[int]
    """The number of anchors of each level; N in all."""


class Proposals(NamedTuple):
    """A fixed number of boxes per image; only those with `valid` count, the others are fillers."""

    boxes: Float[Tensor, "B K 4"]
    """Input pixels, inside the image."""
    scores: Float[Tensor, "B K"]
    """Objectness, 0..1, falling."""
    valid: Bool[Tensor, "B K"]


class RoiOutput(NamedTuple):
    """The output of the RoI head for every RoI; column 0 is background."""

    logits: Float[Tensor, "B K 1+C"]
    deltas: Float[Tensor, "B K 1+C 4"]


class DetectionTensors(NamedTuple):
    """A fixed number of detections per image; only those with `valid` count, the others are fillers."""

    boxes: Float[Tensor, "B D 4"]
    """Pixels of the original image."""
    scores: Float[Tensor, "B D"]
    """Probability of the class, 0..1, falling."""
    labels: Int[Tensor, "B D"]
    """1..C."""
    valid: Bool[Tensor, "B D"]
