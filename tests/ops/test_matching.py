"""Which anchors and RoIs are examples of what."""

import math

import numpy as np
import pytest
import strategies
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import matching as oracle
from torch import Tensor

from frcnn.ops.boxes import iou
from frcnn.ops.matching import first_match, match_anchors, match_rois, recall


def anchors_matched(
    ious: list[list[float]], *, eligible: list[bool] | None = None, clobber_positives: bool = False
) -> tuple[list[int], list[int]]:
    may_train = torch.tensor(eligible if eligible is not None else [True] * len(ious))
    labels, matched = match_anchors(
        [torch.tensor(ious)[may_train]] if any(may_train) else [],
        may_train,
        fg_iou=0.7,
        bg_iou=0.3,
        clobber_positives=clobber_positives,
    )
    return labels.tolist(), matched.tolist()


def rois_matched(ious: list[list[float]], gt_labels: list[int], *, bg_iou_low: float = 0.0) -> list[int]:
    labels, _ = match_rois(
        torch.tensor(ious), torch.tensor(gt_labels), fg_iou=0.5, bg_iou_low=bg_iou_low, bg_iou_high=0.5
    )
    return labels.tolist()


def test_anchor_thresholds() -> None:
    labels, _ = anchors_matched([[0.95], [0.7], [0.69], [0.3], [0.29], [0.0]])
    assert labels == [1, 1, -1, -1, 0, 0]


def test_best_anchor_of_a_box_is_positive_however_little_it_overlaps() -> None:
    assert anchors_matched([[0.9, 0.0], [0.0, 0.1], [0.0, 0.05]]) == ([1, 1, 0], [0, 1, 1])


def test_tied_best_anchors_are_all_positive() -> None:
    labels, _ = anchors_matched([[0.4], [0.2], [0.4]])
    assert labels == [1, 0, 1]


def test_a_box_that_overlaps_no_anchor_makes_none_positive() -> None:
    assert anchors_matched([[0.8, 0.0], [0.1, 0.0], [0.0, 0.0]]) == ([1, 0, 0], [0, 0, 0])
    labels, _ = anchors_matched([[0.0], [0.0]])
    assert labels == [0, 0]


def test_best_anchor_trains_towards_the_box_it_is_the_best_of() -> None:
    # Anchor 1 overlaps box 1 more than box 0, but box 0 has no better anchor; box 1 has.
    labels, matched = anchors_matched([[0.0, 0.9], [0.4, 0.6]])
    assert labels == [1, 1]
    assert matched == [1, 0]


def test_best_anchor_of_two_boxes_trains_towards_the_one_it_overlaps_more() -> None:
    assert anchors_matched([[0.4, 0.6], [0.1, 0.2]])[1][0] == 1


def test_positive_anchor_trains_towards_the_box_it_overlaps_most() -> None:
    labels, matched = anchors_matched([[0.9, 0.1], [0.8, 0.75], [0.1, 0.95]])
    assert labels == [1, 1, 1]
    assert matched == [0, 0, 1]


def test_clobber_positives_makes_a_weak_best_anchor_negative() -> None:
    ious = [[0.2, 0.0], [0.0, 0.5], [0.1, 0.0]]
    assert anchors_matched(ious)[0] == [1, 1, 0]
    assert anchors_matched(ious, clobber_positives=True)[0] == [0, 1, 0]


def test_anchors_that_may_not_train_are_ignored_and_best_of_nothing() -> None:
    labels, _ = anchors_matched([[0.9], [0.4], [0.0]], eligible=[False, True, False])
    assert labels == [-1, 1, -1]


def test_in_an_image_without_objects_all_eligible_anchors_are_negative() -> None:
    eligible = torch.tensor([True, False, True])
    labels, matched = match_anchors([], eligible, fg_iou=0.7, bg_iou=0.3)
    assert labels.tolist() == [0, -1, 0]
    assert matched.tolist() == [0, 0, 0]


def test_no_eligible_anchors() -> None:
    assert anchors_matched([[0.9], [0.1]], eligible=[False, False])[0] == [-1, -1]


@given(
    anchors=strategies.crowded_boxes(min_count=1),
    boxes=strategies.crowded_boxes(max_count=4),
    data=st.data(),
    clobber=st.booleans(),
)
def test_anchor_labels_equal_the_papers_rule(
    anchors: Tensor, boxes: Tensor, data: st.DataObject, clobber: bool
) -> None:
    eligible = torch.tensor(data.draw(st.tuples(*[st.booleans()] * len(anchors))))
    ious = iou(anchors, boxes)
    size = data.draw(st.integers(1, 5))
    blocks = ious[eligible].split(size, dim=1) if ious[eligible].numel() else []
    labels, matched = match_anchors(blocks, eligible, fg_iou=0.5, bg_iou=0.25, clobber_positives=clobber)
    assert labels.tolist() == oracle.match_anchors(ious.numpy(), eligible.numpy(), 0.5, 0.25, clobber)
    at_once = match_anchors(blocks and [ious[eligible]], eligible, fg_iou=0.5, bg_iou=0.25, clobber_positives=clobber)
    assert (labels.tolist(), matched.tolist()) == (at_once[0].tolist(), at_once[1].tolist())
    positive = labels == 1
    assert (ious[positive, matched[positive]] > 0).all()


def test_roi_has_the_label_of_its_best_box() -> None:
    assert rois_matched([[0.6, 0.7], [0.7, 0.6], [0.5, 0.0]], [4, 2]) == [2, 4, 4]


def test_roi_background_is_a_half_open_range() -> None:
    ious = [[0.5], [0.49], [0.1], [0.09], [0.0]]
    assert rois_matched(ious, [7]) == [7, 0, 0, 0, 0]
    assert rois_matched(ious, [7], bg_iou_low=0.1) == [7, 0, 0, -1, -1]


def test_roi_between_background_and_foreground_is_left_out() -> None:
    labels, _ = match_rois(
        torch.tensor([[0.6], [0.5], [0.4], [0.3]]), torch.tensor([1]), fg_iou=0.6, bg_iou_low=0.0, bg_iou_high=0.4
    )
    assert labels.tolist() == [1, -1, -1, 0]


def test_in_an_image_without_objects_all_rois_are_background() -> None:
    labels, matched = match_rois(
        torch.zeros(3, 0), torch.zeros(0, dtype=torch.int64), fg_iou=0.5, bg_iou_low=0.0, bg_iou_high=0.5
    )
    assert labels.tolist() == [0, 0, 0]
    assert matched.tolist() == [0, 0, 0]


@pytest.mark.parametrize("thresholds", [(0.5, 0.0, 0.5), (0.5, 0.1, 0.5), (0.6, 0.2, 0.4)])
@given(rois=strategies.crowded_boxes(min_count=1), boxes=strategies.crowded_boxes(min_count=1, max_count=4))
def test_roi_labels_equal_the_papers_rule(thresholds: tuple[float, float, float], rois: Tensor, boxes: Tensor) -> None:
    fg_iou, low, high = (float(np.float32(value)) for value in thresholds)
    gt_labels, ious = torch.arange(1, len(boxes) + 1), iou(rois, boxes)
    labels, matched = match_rois(ious, gt_labels, fg_iou=fg_iou, bg_iou_low=low, bg_iou_high=high)
    expected = oracle.match_rois(ious.double().numpy(), gt_labels.numpy(), fg_iou, low, high)
    assert (labels.tolist(), matched.tolist()) == expected


# ------------------------------------------------------------------------------------------------------------ recall


def test_the_first_match_of_each_box_is_found() -> None:
    ious = torch.tensor([[0.2, 0.7, 0.0], [0.6, 0.9, 0.0], [0.8, 0.1, 0.49]])
    assert first_match(ious).tolist() == [1, 0, -1]
    assert first_match(ious, min_iou=0.75).tolist() == [2, 1, -1]
    assert first_match(torch.zeros(0, 2)).tolist() == [-1, -1]
    assert first_match(torch.zeros(3, 0)).tolist() == []


def test_recall_is_the_share_found_by_the_best() -> None:
    assert recall([0, 49, 50, 99, 300, -1, -1, -1]) == {50: 0.25, 100: 0.5, 300: 0.5}
    assert all(math.isnan(share) for share in recall([]).values())
