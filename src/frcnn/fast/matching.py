"""Anchors and boxes compared in chunks: the IoU of 140,000 anchors with 500 boxes at once would fill gigabytes.

Letters: N anchors or RoIs, G ground-truth boxes, M other boxes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.ops.boxes import iou
from frcnn.ops.matcher import match_anchors

_PAIRS = 1 << 21  # pairs of boxes that are compared at once


def match_anchors_in_chunks(
    anchors: Float[Tensor, "N 4"],
    boxes: Float[Tensor, "G 4"],
    *,
    positive_iou: float,
    negative_iou: float,
    clobber_positives: bool,
) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """`match_anchors(iou(anchors, boxes), ...)`: the same result."""
    chunks, highest = _chunks(anchors, boxes), None
    if len(chunks) > 1:
        highest = torch.stack([iou(chunk, boxes).amax(dim=0) for chunk in chunks]).amax(dim=0)
    matches = [
        match_anchors(
            iou(chunk, boxes),
            highest,
            positive_iou=positive_iou,
            negative_iou=negative_iou,
            clobber_positives=clobber_positives,
        )
        for chunk in chunks
    ]
    labels, matched_idxs = zip(*matches, strict=True)
    return torch.cat(labels), torch.cat(matched_idxs)


def highest_iou_in_chunks(boxes: Float[Tensor, "N 4"], others: Float[Tensor, "M 4"]) -> Float[Tensor, "N"]:
    """`iou(boxes, others).amax(dim=1)`: the same result; M is at least 1."""
    return torch.cat([iou(chunk, others).amax(dim=1) for chunk in _chunks(boxes, others)])


def _chunks(boxes: Float[Tensor, "N 4"], others: Float[Tensor, "M 4"]) -> Sequence[Float[Tensor, "_ 4"]]:
    chunks: Sequence[Tensor] = boxes.split(max(1, _PAIRS // max(1, len(others))))
    return chunks
