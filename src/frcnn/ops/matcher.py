"""Labels for anchors and RoIs, by their IoU with the ground-truth boxes.

Letters: N anchors (in `match`, or RoIs), K RoIs, G ground-truth boxes.
Labels: 0 background, >= 1 foreground, -1 ignore.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def match(
    ious: Float[Tensor, "N G"], *, thresholds: Sequence[float], labels: Sequence[int]
) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Match each anchor or RoI with the ground-truth box that it overlaps most, and label it by their IoU.

    Args:
        ious: of anchors or RoIs with ground-truth boxes.
        thresholds: rising, e.g. (0.3, 0.7).
        labels: of the IoU intervals [0, t1), [t1, t2), ..., [tn, 1], e.g. (0, -1, 1).

    Returns:
        labels: all background if there is no ground-truth box.
        matched_idxs: the ground-truth box of each; 0 if there is none.

    Source:
        The matcher of detectron2.
    """
    if ious.shape[1] == 0:
        background = torch.zeros(len(ious), dtype=torch.int64, device=ious.device)
        return background, background.clone()
    best_iou, matched_idxs = ious.max(dim=1)
    interval = torch.bucketize(best_iou, ious.new_tensor(thresholds), right=True)
    return torch.tensor(labels, device=ious.device)[interval], matched_idxs


def match_anchors(
    ious: Float[Tensor, "N G"],
    highest: Float[Tensor, "G"] | None = None,
    *,
    positive_iou: float,
    negative_iou: float,
    clobber_positives: bool = False,
) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """The anchor target rule: an anchor is positive if it is the best anchor of some ground-truth box, ties included,
    or overlaps one by `positive_iou` or more; negative if it overlaps all by less than `negative_iou`.

    Args:
        ious: of the anchors that train, or of a part of them, with ground-truth boxes.
        highest: the highest IoU of each ground-truth box with any anchor that trains; None: `ious` holds all of them.
        clobber_positives: an anchor to which both rules apply becomes negative.

    Returns:
        labels: 1, 0 or -1.
        matched_idxs: the ground-truth box of each anchor; 0 if there is none.

    Source:
        Ren et al. 2015, section 3.1.2.
        Differs from py-faster-rcnn: a box that overlaps no anchor makes none positive (there, all tie at 0), and a best
        anchor is matched with the box that it is the best of (there, with the one that it overlaps most).
    """
    labels, matched_idxs = match(ious, thresholds=(negative_iou, positive_iou), labels=(0, -1, 1))
    if ious.numel() == 0:
        return labels, matched_idxs
    highest = ious.amax(dim=0) if highest is None else highest
    best_iou, best_idxs = (ious * (ious == highest)).max(dim=1)  # IoU with the box whose best anchor it is, else 0
    is_best = best_iou > 0
    labels[is_best & (labels != 0) if clobber_positives else is_best] = 1
    # A best anchor trains towards the box that it is the best of, not towards the one that it overlaps most.
    return labels, torch.where(is_best, best_idxs, matched_idxs)


def match_rois(
    ious: Float[Tensor, "K G"],
    gt_labels: Int[Tensor, "G"],
    *,
    positive_iou: float,
    negative_iou_low: float,
    negative_iou_high: float,
) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    """The proposal target rule: a RoI that overlaps its best ground-truth box by `positive_iou` or more has that box's
    label; one in [negative_iou_low, negative_iou_high) is background; all others are ignored.

    Returns:
        labels: -1, 0 or 1..C.
        matched_idxs: the ground-truth box of each RoI; 0 if there is none.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2.3; thresholds as in CNTK's tutorial (0.5; [0, 0.5)).
    """
    # `match` needs rising thresholds; a RoI of `positive_iou` or more is always foreground.
    low, high = (min(threshold, positive_iou) for threshold in (negative_iou_low, negative_iou_high))
    labels, matched_idxs = match(ious, thresholds=(low, high, positive_iou), labels=(-1, 0, -1, 1))
    foreground = labels == 1
    labels[foreground] = gt_labels[matched_idxs[foreground]]
    return labels, matched_idxs
