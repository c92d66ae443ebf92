"""Which anchors and RoIs are examples of what."""

import numpy as np
import pytest
import strategies
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import matching as oracle
from torch import Tensor

from frcnn.ops.boxes import iou
from frcnn.ops.matcher import match, match_anchors, match_rois


def anchors_matched(ious: list[list[float]], *, clobber_positives: bool = False) -> tuple[list[int], list[int]]:
    labels, matched = match_anchors(
        torch.tensor(ious), positive_iou=0.7, negative_iou=0.3, clobber_positives=clobber_positives
    )
    return labels.tolist(), matched.tolist()


def rois_matched(ious: list[list[float]], gt_labels: list[int], *, negative_iou_low: float = 0.0) -> list[int]:
    labels, _ = match_rois(
        torch.tensor(ious),
        torch.tensor(gt_labels),
        positive_iou=0.5,
        negative_iou_low=negative_iou_low,
        negative_iou_high=0.5,
    )
    return labels.tolist()


def test_anchor_thresholds() -> None:
    labels, _ = anchors_matched([[0.95], [0.7], [0.69], [0.3], [0.29], [0.0]])
    assert labels == [1, 1, -1, -1, 0, 0]


def test_best_anchor_of_a_box_is_positive_at_any_iou() -> None:
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


def test_in_an_image_without_objects_all_anchors_are_negative() -> None:
    labels, matched = match_anchors(torch.zeros(2, 0), positive_iou=0.7, negative_iou=0.3)
    assert labels.tolist() == [0, 0]
    assert matched.tolist() == [0, 0]


def test_no_anchors() -> None:
    labels, matched = match_anchors(torch.zeros(0, 2), positive_iou=0.7, negative_iou=0.3)
    assert (labels.shape, matched.shape) == ((0,), (0,))


@given(
    anchors=strategies.crowded_boxes(min_count=1),
    boxes=strategies.crowded_boxes(min_count=1, max_count=4),
    size=st.integers(1, 5),
    clobber=st.booleans(),
)
def test_anchor_labels_equal_the_papers_rule(anchors: Tensor, boxes: Tensor, size: int, clobber: bool) -> None:
    ious = iou(anchors, boxes)
    rules = {"positive_iou": 0.5, "negative_iou": 0.25, "clobber_positives": clobber}
    labels, matched = match_anchors(ious, **rules)
    eligible = np.ones(len(anchors), bool)
    assert labels.tolist() == oracle.match_anchors(ious.numpy(), eligible, 0.5, 0.25, clobber)
    positive = labels == 1
    assert (ious[positive, matched[positive]] > 0).all()
    parts = [match_anchors(part, ious.amax(dim=0), **rules) for part in ious.split(size)]
    assert [torch.cat(values).tolist() for values in zip(*parts, strict=True)] == [labels.tolist(), matched.tolist()]


def test_labels_are_those_of_the_interval_of_the_best_iou() -> None:
    ious = torch.tensor([[0.1, 0.0], [0.3, 0.2], [0.5, 0.69], [0.7, 0.1], [0.0, 1.0]])
    labels, matched = match(ious, thresholds=(0.3, 0.7), labels=(0, -1, 1))
    assert labels.tolist() == [0, -1, -1, 1, 1]
    assert matched.tolist() == [0, 0, 1, 0, 1]


def test_roi_has_the_label_of_its_best_box() -> None:
    assert rois_matched([[0.6, 0.7], [0.7, 0.6], [0.5, 0.0]], [4, 2]) == [2, 4, 4]


def test_roi_background_is_a_half_open_range() -> None:
    ious = [[0.5], [0.49], [0.1], [0.09], [0.0]]
    assert rois_matched(ious, [7]) == [7, 0, 0, 0, 0]
    assert rois_matched(ious, [7], negative_iou_low=0.1) == [7, 0, 0, -1, -1]


def test_roi_between_background_and_foreground_is_ignored() -> None:
    labels, _ = match_rois(
        torch.tensor([[0.6], [0.5], [0.4], [0.3]]),
        torch.tensor([1]),
        positive_iou=0.6,
        negative_iou_low=0.0,
        negative_iou_high=0.4,
    )
    assert labels.tolist() == [1, -1, -1, 0]


def test_in_an_image_without_objects_all_rois_are_background() -> None:
    labels, matched = match_rois(
        torch.zeros(3, 0),
        torch.zeros(0, dtype=torch.int64),
        positive_iou=0.5,
        negative_iou_low=0.0,
        negative_iou_high=0.5,
    )
    assert labels.tolist() == [0, 0, 0]
    assert matched.tolist() == [0, 0, 0]


@pytest.mark.parametrize("thresholds", [(0.5, 0.0, 0.5), (0.5, 0.1, 0.5), (0.6, 0.2, 0.4)])
@given(rois=strategies.crowded_boxes(min_count=1), boxes=strategies.crowded_boxes(min_count=1, max_count=4))
def test_roi_labels_equal_the_papers_rule(thresholds: tuple[float, float, float], rois: Tensor, boxes: Tensor) -> None:
    positive_iou, low, high = (float(np.float32(value)) for value in thresholds)
    gt_labels, ious = torch.arange(1, len(boxes) + 1), iou(rois, boxes)
    labels, matched = match_rois(
        ious, gt_labels, positive_iou=positive_iou, negative_iou_low=low, negative_iou_high=high
    )
    expected = oracle.match_rois(ious.double().numpy(), gt_labels.numpy(), positive_iou, low, high)
    assert (labels.tolist(), matched.tolist()) == expected
