"""Which anchors and RoIs are examples of what.

Letters: N anchors, E of them eligible, K RoIs, G ground-truth boxes. Labels: 0 background, >= 1 foreground, -1 ignore.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def match_anchors(
    ious: Iterable[Float[Tensor, "E _"]],
    eligible: Bool[Tensor, "N"],
    *,
    fg_iou: float,
    bg_iou: float,
    clobber_positives: bool = False,
) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """The anchor target rule: an anchor is positive if it is the best of some ground-truth box, ties
    included, or overlaps one by `fg_iou` or more; negative if it overlaps all by less than `bg_iou`.

    Args:
        ious: of the eligible anchors with ground-truth boxes, in order, some boxes at a time.
        eligible: the anchors that may train; the paper leaves out those that cross the image's border.
        clobber_positives: an anchor that is both becomes negative.

    Returns:
        labels: 1, 0 or -1.
        matched_idxs: the ground-truth box of each anchor; 0 where there is none.

    Source:
        Ren et al. 2015, section 3.1.2.
        Differs from py-faster-rcnn: a box that overlaps no anchor makes none positive (there, all tie at 0).
    """
    places = eligible.nonzero().flatten()
    own_iou = torch.zeros(len(places), device=places.device)  # with a box that an anchor is the best of
    best_iou = own_iou - 1  # without boxes, less than any threshold
    best_idxs = own_idxs = torch.zeros_like(own_iou, dtype=torch.int64)
    first = 0
    for block in ious:
        best_iou, best_idxs = _larger(best_iou, best_idxs, block, first)
        own_iou, own_idxs = _larger(own_iou, own_idxs, block * (block == block.amax(dim=0)), first)
        first += block.shape[1]

    negative, is_best = best_iou < bg_iou, own_iou > 0
    found = torch.full_like(best_idxs, -1)
    found[negative] = 0
    found[(best_iou >= fg_iou) | is_best] = 1
    if clobber_positives:
        found[negative] = 0
    labels = torch.full_like(eligible, -1, dtype=torch.int64)
    matched_idxs = torch.zeros_like(labels)
    labels[places] = found
    # A best anchor trains towards the box that it is the best of, not towards the one it overlaps most.
    matched_idxs[places] = torch.where(is_best, own_idxs, best_idxs)
    return labels, matched_idxs


def _larger(
    largest: Float[Tensor, "N"], place: Int[Tensor, "N"], block: Float[Tensor, "N g"], first: int
) -> tuple[Float[Tensor, "N"], Int[Tensor, "N"]]:
    """The largest number of each row so far and its column, when a block of columns follows, whose first is column
    `first`; of equal ones the first."""
    value, index = block.max(dim=1)
    return torch.maximum(largest, value), torch.where(value > largest, index + first, place)


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
