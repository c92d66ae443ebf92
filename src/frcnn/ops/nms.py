"""Non-maximum suppression (NMS). Letters: P independent sets of boxes, N boxes."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.ops.boxes import iou

Nms = Callable[[Tensor, Tensor, float, int], Tensor]
"""The arguments and the result of `nms`."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    """Greedy non-maximum suppression of P independent sets of boxes; stops at `max_keep` boxes of each set.

    It is one operator, so that an exporter sees one node with an output of fixed size. This is the plain version.
    `fast/nms.py` replaces it in training and prediction, `export/onnx.py` in exported files. `inference/tiling.py` has
    its own for the detections of tiles.

    Args:
        boxes: (P, N, 4) xyxy, pixels.
        scores: (P, N); -inf marks a box that is never kept.
        iou_threshold: a box is dropped if its IoU with a kept box of higher score is above this.

    Returns:
        (P, max_keep) int64: indices of the kept boxes by falling score (ties: lower index first), then -1.

    Source:
        Ren et al. 2015, section 3.3.
    """
    return _nms_operator(boxes, scores, iou_threshold, max_keep)


@torch.library.custom_op("frcnn::nms", mutates_args=())
def _nms_operator(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    keep = torch.full((len(boxes), max_keep), -1, dtype=torch.int64, device=boxes.device)
    for row, own_boxes, own_scores in zip(keep, boxes, scores, strict=True):
        kept = _nms_of_one_set(own_boxes, own_scores, iou_threshold, max_keep)
        row[: len(kept)] = kept
    return keep


@_nms_operator.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    return boxes.new_empty((boxes.shape[0], max_keep), dtype=torch.int64)


def _nms_of_one_set(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], iou_threshold: float, max_keep: int
) -> Int[Tensor, "_"]:
    """Keep the best remaining box, drop the boxes that overlap it, and repeat."""
    remaining = scores.argsort(descending=True, stable=True)[: int((scores > -torch.inf).sum())]
    kept = remaining[:0]
    while len(remaining) and len(kept) < max_keep:
        best, others = remaining[:1], remaining[1:]
        kept = torch.cat((kept, best))
        remaining = others[iou(boxes[best], boxes[others])[0] <= iou_threshold]
    return kept
