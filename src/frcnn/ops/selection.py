"""Choosing boxes: the only NMS, and the two places that use it.

Letters: B images, N anchors, K proposals, D detections, C classes, P problems solved at once.
"""

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.ops.boxes import clip, iou, rescale
from frcnn.ops.coding import decode
from frcnn.types import Detections, Proposals, RoiOutput, RpnOutput

_BLOCK = 256


@torch.library.custom_op("frcnn::nms", mutates_args=())
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    """Greedy non-maximum suppression of P independent sets of boxes; stops at `max_keep` of each.

    One operator, so that an exporter sees one node with an output of fixed size.

    Args:
        boxes: (P, N, 4) xyxy, pixels.
        scores: (P, N); -inf marks a box that is never kept.
        iou_threshold: a box is dropped if its IoU with a kept box of higher score is above this.

    Returns:
        (P, max_keep) int64: indices of the kept boxes by falling score (ties: lower index first), then -1.

    Source:
        Ren et al. 2015, section 3.3; the rule of torchvision.ops.nms, which finds all kept boxes first.
    """
    keep = torch.full((boxes.shape[0], max_keep), -1, dtype=torch.int64, device=boxes.device)
    with torch.autocast(boxes.device.type, enabled=False):
        for problem in (scores > -torch.inf).any(dim=1).nonzero().flatten().tolist():
            kept = _nms(boxes[problem], scores[problem], iou_threshold, max_keep)
            keep[problem, : len(kept)] = kept
    return keep


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int) -> Tensor:
    return boxes.new_empty((boxes.shape[0], max_keep), dtype=torch.int64)


def _nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], iou_threshold: float, max_keep: int
) -> Int[Tensor, "K"]:
    """One set. Boxes come in blocks by falling score: each block is compared with the boxes kept so far,
    then within itself, so the work ends with the last box needed instead of the last box: measured on a CPU, 12,000
    boxes to 2,000 take a twentieth of the time of torchvision's kernel. On graphics cards that kernel is faster."""
    if boxes.is_cuda:
        countable = (scores > -torch.inf).nonzero().flatten()
        return countable[torchvision.ops.nms(boxes[countable], scores[countable], iou_threshold)[:max_keep]]
    order = scores.argsort(descending=True, stable=True)[: int((scores > -torch.inf).sum())]
    kept = order[:0]
    for block in order.split(_BLOCK):
        if len(kept) > 0:
            block = block[~(iou(boxes[kept], boxes[block]) > iou_threshold).any(dim=0)]
        suppresses = (iou(boxes[block], boxes[block]) > iou_threshold).triu(diagonal=1).float()
        # A box lives if no living box above it suppresses it. Starting from "all live", every pass settles at
        # least the next box in order, so the first pass that changes nothing is the greedy answer. Counted by a product
        # of matrices, which is faster than asking for any.
        alive = torch.ones_like(block, dtype=torch.float32)
        while not torch.equal(alive, survivors := (alive @ suppresses == 0).float()):
            alive = survivors
        kept = torch.cat((kept, block[alive > 0]))
        if len(kept) >= max_keep:
            break
    return kept[:max_keep]


def _gather(values: Tensor, index: Int[Tensor, "P K"]) -> Tensor:
    """values[p, index[p, k]]; where the index is -1, a filler: the first."""
    index = index.clamp(min=0)
    return values.gather(1, index.view(*index.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:]))


def select_proposals(
    rpn: RpnOutput,
    image_sizes: Float[Tensor, "B 2"],
    original_sizes: Float[Tensor, "B 2"],
    *,
    pre_nms_top_n: int,
    nms_iou: float,
    post_nms_top_n: int,
    min_size: float,
    drop_small: str = "first",
    min_score: float = 0.0,
) -> Proposals:
    """The proposal layer: decode, clip, drop small boxes; on each level keep the best, NMS; keep the best of all.

    Args:
        image_sizes: (height, width) of each image inside its frame, input pixels.
        original_sizes: (height, width) before resizing.
        pre_nms_top_n: boxes kept before NMS, on each level.
        post_nms_top_n: boxes kept after NMS, of all levels together.
        nms_iou: NMS threshold.
        min_size: least width and height, pixels of the *original* image.
        drop_small: "first", or "after_top_n": small boxes take places among the best, then go.
        min_score: least objectness.

    Returns:
        `post_nms_top_n` boxes, without gradient.

    Source:
        Ren et al. 2015, section 3.3; order of steps as in py-faster-rcnn's proposal layer. NMS within each level:
        Lin et al. 2017, arXiv:1612.03144, as the authors' code does it; "after_top_n" and min_score are torchvision's.
    """
    logits, deltas = rpn.logits.detach().float(), rpn.deltas.detach()
    zeros, ones = deltas.new_zeros(4).float(), deltas.new_ones(4).float()
    boxes = clip(decode(deltas, rpn.anchors.expand_as(deltas), mean=zeros, std=ones), image_sizes)
    original = rescale(boxes, image_sizes, original_sizes)
    small = (original[..., 2:] - original[..., :2] < min_size).any(dim=-1)
    if drop_small == "first":
        logits = logits.masked_fill(small, -torch.inf)

    found = []
    levels = (values.split(rpn.per_level, dim=1) for values in (boxes, logits, small))
    for boxes, logits, small in zip(*levels, strict=True):
        logits, best = logits.topk(torch.sym_min(pre_nms_top_n, logits.shape[1]), dim=1)
        boxes = _gather(boxes, best)
        logits = logits.masked_fill(_gather(small, best) | (logits.sigmoid() < min_score), -torch.inf)
        keep = nms(boxes, logits, nms_iou, post_nms_top_n)
        found.append((_gather(boxes, keep), _gather(logits, keep).masked_fill(keep < 0, -torch.inf)))
    boxes, logits = (torch.cat(values, dim=1) for values in zip(*found, strict=True))
    logits, best = logits.topk(post_nms_top_n, dim=1)
    return Proposals(_gather(boxes, best), logits.sigmoid(), logits > -torch.inf)


def select_detections(
    roi: RoiOutput,
    proposals: Proposals,
    image_sizes: Float[Tensor, "B 2"],
    original_sizes: Float[Tensor, "B 2"],
    *,
    mean: Float[Tensor, "4"],
    std: Float[Tensor, "4"],
    min_score: float,
    nms_iou: float,
    max_detections: int,
    min_size: float = 0.0,
) -> Detections:
    """Every class regresses its own box from every RoI; NMS within each class; the best of all classes.

    Args:
        mean, std: of the RoI head's deltas.
        min_score: detections under it are background.
        min_size: least width and height, input pixels.

    Returns:
        Boxes in pixels of the original image.

    Source:
        Ren et al. 2015, section 3.3; py-faster-rcnn's test procedure. Differs from CNTK: a RoI may give a
        detection of each class, not only of its best one.
    """
    batch, count, classes = roi.logits.shape[0], roi.logits.shape[1], roi.logits.shape[2] - 1
    scores = roi.logits.float().softmax(dim=-1)[..., 1:].transpose(1, 2)  # (B, C, K)
    boxes = decode(roi.deltas[:, :, 1:], proposals.boxes[:, :, None], mean=mean, std=std)
    boxes = clip(boxes, image_sizes).transpose(1, 2)  # (B, C, K, 4)
    large = (boxes[..., 2:] - boxes[..., :2] >= min_size).all(dim=-1)
    usable = (scores >= min_score) & large & proposals.valid[:, None]
    scores = scores.masked_fill(~usable, -torch.inf)

    boxes, scores = boxes.reshape(-1, count, 4), scores.reshape(-1, count)  # one problem per image and class
    keep = nms(boxes, scores, nms_iou, max_detections)
    kept_scores = _gather(scores, keep).masked_fill(keep < 0, -torch.inf).view(batch, -1)
    kept_boxes = _gather(boxes, keep).view(batch, -1, 4)
    labels = torch.arange(1, classes + 1, device=boxes.device).repeat_interleave(keep.shape[1]).expand(batch, -1)

    scores, best = kept_scores.topk(max_detections, dim=1)
    valid = scores > -torch.inf
    return Detections(
        rescale(_gather(kept_boxes, best), image_sizes, original_sizes),
        scores.masked_fill(~valid, 0.0),
        labels.gather(1, best),
        valid,
    )
