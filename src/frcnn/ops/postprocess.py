"""From the output of a head to its boxes: the choice of proposals and of detections.

Letters: B images, N anchors, K proposals, C classes, P sets of boxes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import clip, rescale
from frcnn.ops.nms import Nms, nms
from frcnn.types import DetectionTensors, Proposals, RoiOutput, RpnOutput


def select_proposals(
    rpn: RpnOutput,
    image_sizes: Float[Tensor, "B 2"],
    original_sizes: Float[Tensor, "B 2"],
    *,
    pre_nms_top_n: int,
    nms_threshold: float,
    post_nms_top_n: int,
    min_size: float,
    drop_small: str = "first",
    score_threshold: float = 0.0,
    limits_shrinking: bool = False,
    nms: Nms = nms,
) -> Proposals:
    """The proposal layer. It decodes and clips the boxes of all anchors and drops small ones. On each level of a
    pyramid it keeps the best boxes and applies NMS. Of all levels together it keeps the best.

    Args:
        image_sizes: (height, width) of each image without padding, input pixels.
        original_sizes: (height, width) before resizing.
        pre_nms_top_n: boxes kept before NMS, on each level.
        post_nms_top_n: boxes kept after NMS, of all levels together.
        nms_threshold: IoU above which the box of the lower score is dropped.
        min_size: least width and height, pixels of the *original* image.
        drop_small: when small boxes are dropped: "first", or "after_top_n", i.e. after `pre_nms_top_n`.
        score_threshold: least objectness.
        limits_shrinking: see `decode`.
        nms: how boxes are suppressed; `frcnn.fast` has a faster function.

    Returns:
        `post_nms_top_n` boxes per image, without gradient.

    Source:
        Ren et al. 2015, section 3.3; order of steps as in py-faster-rcnn's proposal layer. NMS within each level:
        Lin et al. 2017, arXiv:1612.03144, as the authors' code does it; "after_top_n" and score_threshold are
        torchvision's.
    """
    logits, deltas = rpn.logits.detach().float(), rpn.deltas.detach()
    zeros, ones = deltas.new_zeros(4).float(), deltas.new_ones(4).float()  # RPN deltas are not normalized
    anchors = rpn.anchors.expand_as(deltas)
    boxes = clip(decode(deltas, anchors, mean=zeros, std=ones, limits_shrinking=limits_shrinking), image_sizes)
    original = rescale(boxes, image_sizes, original_sizes)
    small = (original[..., 2:] - original[..., :2] < min_size).any(dim=-1)
    if drop_small == "first":
        logits = logits.masked_fill(small, -torch.inf)

    kept = []
    levels = (values.split(rpn.per_level, dim=1) for values in (boxes, logits, small))
    for level_boxes, level_logits, level_small in zip(*levels, strict=True):
        top, best = level_logits.topk(torch.sym_min(pre_nms_top_n, level_logits.shape[1]), dim=1)
        top_boxes = _gather(level_boxes, best)
        top = top.masked_fill(_gather(level_small, best) | (top.sigmoid() < score_threshold), -torch.inf)
        keep = nms(top_boxes, top, nms_threshold, post_nms_top_n)
        kept.append((_gather(top_boxes, keep), _gather(top, keep).masked_fill(keep < 0, -torch.inf)))
    boxes, logits = (torch.cat(values, dim=1) for values in zip(*kept, strict=True))
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
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    min_size: float = 0.0,
    limits_shrinking: bool = False,
    nms: Nms = nms,
) -> DetectionTensors:
    """Detections: every class regresses its own box from every RoI; NMS within each class; the best of all classes.

    Args:
        mean, std: of the RoI head's deltas.
        score_threshold: detections under it are background.
        min_size: least width and height, input pixels.
        limits_shrinking: see `decode`.
        nms: how boxes are suppressed; `frcnn.fast` has a faster function.

    Returns:
        Boxes in pixels of the original image.

    Source:
        Ren et al. 2015, section 3.3; py-faster-rcnn's test procedure. Differs from CNTK: a RoI may give a
        detection of each class, not only of its best one.
    """
    batch, count, classes = roi.logits.shape[0], roi.logits.shape[1], roi.logits.shape[2] - 1
    scores = roi.logits.float().softmax(dim=-1)[..., 1:].transpose(1, 2)  # (B, C, K)
    rois = proposals.boxes[:, :, None]
    boxes = decode(roi.deltas[:, :, 1:], rois, mean=mean, std=std, limits_shrinking=limits_shrinking)
    boxes = clip(boxes, image_sizes).transpose(1, 2)  # (B, C, K, 4)
    large = (boxes[..., 2:] - boxes[..., :2] >= min_size).all(dim=-1)
    usable = (scores >= score_threshold) & large & proposals.valid[:, None]
    scores = scores.masked_fill(~usable, -torch.inf)

    boxes, scores = boxes.reshape(-1, count, 4), scores.reshape(-1, count)  # one set per image and class
    keep = nms(boxes, scores, nms_threshold, max_detections)
    kept_scores = _gather(scores, keep).masked_fill(keep < 0, -torch.inf).view(batch, -1)
    kept_boxes = _gather(boxes, keep).view(batch, -1, 4)
    labels = torch.arange(1, classes + 1, device=boxes.device).repeat_interleave(keep.shape[1]).expand(batch, -1)

    scores, best = kept_scores.topk(max_detections, dim=1)
    valid = scores > -torch.inf
    return DetectionTensors(
        rescale(_gather(kept_boxes, best), image_sizes, original_sizes),
        scores.masked_fill(~valid, 0.0),
        labels.gather(1, best),
        valid,
    )


def _gather(values: Tensor, index: Int[Tensor, "P _"]) -> Tensor:
    """values[p, index[p, i]]; for an index of -1, the first value as a filler."""
    index = index.clamp(min=0)
    return values.gather(1, index.view(*index.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:]))
