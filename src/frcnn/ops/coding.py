"""Box deltas (dx, dy, dw, dh): how a box differs from its anchor or RoI. The only encode and decode."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""No box grows more than 62.5-fold, so that an untrained network cannot overflow (as in py-faster-rcnn's
successors)."""


def encode(
    boxes: Float[Tensor, "*b 4"],
    anchors: Float[Tensor, "*b 4"],
    *,
    mean: Float[Tensor, "4"],
    std: Float[Tensor, "4"],
) -> Float[Tensor, "*b 4"]:
    """The deltas that take each anchor to its box, normalised by mean and std.

    Args:
        boxes, anchors: xyxy, pixels, positive sides.

    Contract: `decode(encode(b, a), a) == b` while no side differs more than 62.5-fold.

    Source:
        Ren et al. 2015, equation 2; normalisation as in Girshick's Fast R-CNN, section 2.3.
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
) -> Float[Tensor, "*b 4"]:
    """The boxes that the deltas make of the anchors; float32 also under autocast.

    Args:
        deltas: normalised (dx, dy, dw, dh).
        anchors: xyxy, pixels; broadcast against the deltas, so one RoI serves all its classes.
    """
    deltas = deltas.float() * std + mean
    a_size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * a_size
    half = a_size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat((centre - half, centre + half), dim=-1)
