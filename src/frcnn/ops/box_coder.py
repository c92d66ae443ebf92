"""Box deltas (dx, dy, dw, dh): from an anchor or RoI to a box. `*b` stands for any leading dimensions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Limit of dw and dh: no side grows more than 62.5-fold, so an untrained network cannot overflow (as in detectron2)."""


def encode(
    boxes: Float[Tensor, "*b 4"],
    anchors: Float[Tensor, "*b 4"],
    *,
    mean: Float[Tensor, "4"],
    std: Float[Tensor, "4"],
) -> Float[Tensor, "*b 4"]:
    """The deltas from each anchor to its box, normalized by mean and std.

    Args:
        boxes, anchors: xyxy, pixels; sides are positive.
        mean, std: of (dx, dy, dw, dh).

    Contract: `decode(encode(b, a), a) == b` if no side differs more than 62.5-fold.

    Source:
        Ren et al. 2015, equation 2; normalization as in Girshick's Fast R-CNN, section 2.3.
        Differs from py-faster-rcnn: continuous sides (no "+1"), so that encode and decode are inverses.
    """
    a_size = anchors[..., 2:] - anchors[..., :2]
    b_size = boxes[..., 2:] - boxes[..., :2]
    shift = ((boxes[..., :2] + boxes[..., 2:]) - (anchors[..., :2] + anchors[..., 2:])) / 2 / a_size
    return (torch.cat((shift, torch.log(b_size / a_size)), dim=-1) - mean) / std


def decode(
    deltas: Float[Tensor, "*b 4"],
    anchors: Float[Tensor, "*#b 4"],
    *,
    mean: Float[Tensor, "4"],
    std: Float[Tensor, "4"],
    limits_shrinking: bool = False,
) -> Float[Tensor, "*b 4"]:
    """Apply deltas to anchors; in float32, also under autocast.

    Args:
        deltas: normalized (dx, dy, dw, dh).
        anchors: xyxy, pixels; broadcast against the deltas, so that one RoI serves all classes.
        mean, std: of (dx, dy, dw, dh), as in `encode`.
        limits_shrinking: no side shrinks more than 62.5-fold either, as in mmdetection.

    Returns:
        xyxy, pixels.

    Source:
        Ren et al. 2015, equation 2.
    """
    deltas = deltas.float() * std + mean
    a_size = anchors[..., 2:] - anchors[..., :2]
    center = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * a_size
    least = -MAX_LOG_SCALE if limits_shrinking else None
    half = a_size * deltas[..., 2:].clamp(min=least, max=MAX_LOG_SCALE).exp() / 2
    return torch.cat((center - half, center + half), dim=-1)
