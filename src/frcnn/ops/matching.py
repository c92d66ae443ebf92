"""Which anchors and RoIs are examples of what.

Letters: N anchors, K RoIs, G ground-truth boxes. Labels: 0 background, >= 1 foreground, -1 ignore.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def match_anchors(
    ious: Float[Tensor, "N G"],
    eligible: Bool[Tensor, "N"],
    *,
    fg_iou: float,
    bg_iou: float,
    clobber_positives: bool = False,
) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """The anchor target rule: an anchor is positive if it is the best of some ground-truth box, ties
    included, or overlaps one by `fg_iou` or more; negative if it overlaps all by less than `bg_iou`.

    Args:
        ious: of anchors with ground-truth boxes.
        eligible: the anchors that may train; the paper leaves out those that cross the image's border.
        clobber_positives: an anchor that is both becomes negative.

    Returns:
        labels: 1, 0 or -1.
        matched_idxs: the ground-truth box of each anchor; 0 where there is none.

    Source:
        Ren et al. 2015, section 3.1.2.
        Differs from py-faster-rcnn: a box that overlaps no anchor makes none positive (there, all tie at 0).
    """
    labels = torch.full_like(eligible, -1, dtype=torch.int64)
    if ious.shape[1] == 0:
        labels[eligible] = 0
        return labels, torch.zeros_like(labels)

    ious = ious * eligible[:, None]
    best_iou, matched_idxs = ious.max(dim=1)
    best_of_box = ious.amax(dim=0)
    # A best anchor trains towards the box that it is the best of, not towards the one it overlaps most.
    is_best = (ious == best_of_box) & (best_of_box > 0)
    matched_idxs = torch.where(is_best.any(dim=1), (is_best * ious).argmax(dim=1), matched_idxs)

    negative = eligible & (best_iou < bg_iou)
    labels[negative] = 0
    labels[eligible & (best_iou >= fg_iou)] = 1
    labels[is_best.any(dim=1)] = 1
    if clobber_positives:
        labels[negative] = 0
    return labels, matched_idxs


def match_rois(
    ious: Float[Tensor, "K G"],
    gt_labels: Int[Tensor, "G"],
    *,
    fg_iou: float,
    bg_iou_low: float,
    bg_iou_high: float,
) -> tuple[Int[Tensor, "K"], Int[Tensor, "K"]]:
    """The proposal target rule: a RoI that overlaps its best ground-truth box by `fg_iou` or more has that
    box's label; one in [bg_iou_low, bg_iou_high) is background; the others are left out.

    Returns:
        labels: -1, 0 or 1..C.
        matched_idxs: the ground-truth box of each RoI; 0 where there is none.

    Source:
        Girshick 2015, arXiv:1504.08083, section 2.3; thresholds as in the tutorial (0.5; [0, 0.5)).
    """
    if ious.shape[1] == 0:
        labels = torch.zeros(ious.shape[0], dtype=torch.int64, device=ious.device)
        return labels, torch.zeros_like(labels)
    best_iou, matched_idxs = ious.max(dim=1)
    labels = torch.full_like(matched_idxs, -1)
    labels[(best_iou >= bg_iou_low) & (best_iou < bg_iou_high)] = 0
    foreground = best_iou >= fg_iou
    labels[foreground] = gt_labels[matched_idxs[foreground]]
    return labels, matched_idxs


def first_match(ious: Float[Tensor, "K G"], *, min_iou: float = 0.5) -> Int[Tensor, "G"]:
    """For each ground-truth box, the place of the first RoI that overlaps it by `min_iou` or more; -1 if none does.

    Args:
        ious: of RoIs, best first, with ground-truth boxes.
    """
    matches = torch.cat((ious >= min_iou, ious.new_zeros((1, ious.shape[1])).bool()))  # so that there is one
    return torch.where(matches.any(dim=0), matches.int().argmax(dim=0), -1)  # of several largest, the first


def recall(places: Sequence[int], *, at: Sequence[int] = (50, 100, 300)) -> dict[int, float]:
    """The share of objects that the best n RoIs find, for some n; NaN where there is no object.

    Args:
        places: of each object, the `first_match`.
    """
    return {n: sum(0 <= place < n for place in places) / len(places) if places else math.nan for n in at}
