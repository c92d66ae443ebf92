"""Non-maximum suppression, proposals and detections."""

from collections.abc import Sequence
from typing import Any

import pytest
import strategies
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from oracles import boxes as oracle
from torch import Tensor
from torch.testing import assert_close
from torchvision.models.detection.rpn import RegionProposalNetwork

from frcnn.fast.nms import blocked_nms
from frcnn.ops.boxes import iou
from frcnn.ops.nms import nms
from frcnn.ops.postprocess import select_detections, select_proposals
from frcnn.types import DetectionTensors, Proposals, RoiOutput, RpnOutput

INF = float("inf")
ZEROS, ONES = torch.zeros(4), torch.ones(4)


def valid_only(values: Tensor, valid: Tensor) -> list[Tensor]:
    return [image_values[image_valid] for image_values, image_valid in zip(values, valid, strict=True)]


def kept(boxes: Tensor, scores: Tensor, iou_threshold: float, max_keep: int | None = None) -> list[int]:
    """One set, by the plain function and by the fast one; without the fillers at the end."""
    count = max_keep if max_keep is not None else len(boxes)
    row, fast = (each(boxes[None], scores[None], iou_threshold, count)[0] for each in (nms, blocked_nms))
    assert_close(fast, row)
    indices = row[: int((row >= 0).sum())]
    assert (row[len(indices) :] == -1).all()
    return indices.tolist()


def random_boxes(count: int, *, side: int, frame: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Whole pixels and scores with many ties, on a frame that they crowd."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, frame, (count, 2), generator=generator)
    sides = torch.randint(side // 2, side, (count, 2), generator=generator)
    scores = torch.randint(0, count // 2, (count,), generator=generator)
    return torch.cat((corners, corners + sides), dim=1).float(), scores.float()


# ------------------------------------------------------------------------------------------------------------- nms


def test_nms_by_hand() -> None:
    # IoU of 0 and 1: 1/2; of 1 and 2: 1/2; of 0 and 2: 0. Box 0 drops 1, so 1 cannot drop 2.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 10, 10, 20]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert kept(boxes, scores, 0.4) == [0, 2]
    assert kept(boxes, scores.flip(0), 0.4) == [2, 0]
    assert kept(boxes, torch.tensor([0.7, 0.9, 0.8]), 0.4) == [1]


def test_nms_drops_only_above_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert kept(boxes, torch.tensor([0.9, 0.8]), 0.5) == [0, 1]
    assert kept(boxes, torch.tensor([0.9, 0.8]), 0.49) == [0]


def test_nms_keeps_the_lower_index_of_equal_scores() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    assert kept(boxes, torch.tensor([0.5, 0.5, 0.5]), 0.5) == [0, 2]


def test_nms_never_keeps_minus_infinity() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    assert kept(boxes, torch.tensor([-INF, -INF, -5.0]), 0.5) == [2]
    assert kept(boxes, torch.tensor([-INF, -INF, -INF]), 0.5) == []


@pytest.mark.parametrize(("sets", "count", "max_keep"), [(2, 0, 5), (0, 4, 5), (2, 3, 0), (2, 3, 7)])
def test_nms_always_gives_max_keep_columns(sets: int, count: int, max_keep: int) -> None:
    keep = nms(torch.zeros(sets, count, 4), torch.zeros(sets, count), 0.5, max_keep)
    assert keep.shape == (sets, max_keep)
    assert keep.dtype == torch.int64


@given(strategies.scored_boxes(), st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0)))
def test_nms_drops_exactly_the_boxes_that_overlap_a_kept_one(scored: tuple[Tensor, Tensor], threshold: float) -> None:
    boxes, scores = scored
    keep = kept(boxes, scores, threshold)
    overlaps = iou(boxes, boxes) > threshold
    assert not overlaps[keep][:, keep].fill_diagonal_(False).any()
    for dropped in set(range(len(boxes))) - set(keep):
        assert scores[dropped] == -INF or any(overlaps[dropped, k] and scores[k] >= scores[dropped] for k in keep)
    assert scores[keep].tolist() == sorted(scores[keep].tolist(), reverse=True)


@given(strategies.scored_boxes(), st.sampled_from((0.0, 0.25, 0.5, 0.75)))
def test_nms_equals_a_loop_over_boxes(scored: tuple[Tensor, Tensor], threshold: float) -> None:
    boxes, scores = scored
    assert kept(boxes, scores, threshold) == oracle.nms(boxes.double().numpy(), scores.numpy(), threshold)


@given(strategies.scored_boxes(), st.integers(0, 12))
def test_nms_max_keep_gives_a_prefix(scored: tuple[Tensor, Tensor], max_keep: int) -> None:
    assert kept(*scored, 0.5, max_keep) == kept(*scored, 0.5)[:max_keep]


@given(st.lists(strategies.crowded_boxes(min_count=5, max_count=5), min_size=1, max_size=4), st.data())
def test_nms_of_many_sets_equals_each_alone(sets: list[Tensor], data: st.DataObject) -> None:
    scores = [torch.tensor(data.draw(st.lists(strategies.numbers(0, 1), min_size=5, max_size=5))) for _ in sets]
    together = nms(torch.stack(sets), torch.stack(scores), 0.3, 4)
    alone = [nms(boxes[None], score[None], 0.3, 4)[0] for boxes, score in zip(sets, scores, strict=True)]
    assert_close(together, torch.stack(alone))


@pytest.mark.parametrize("count", [255, 256, 257, 3000])
@pytest.mark.parametrize("frame", [60, 400])  # hardly any box is kept; most are
def test_nms_of_many_boxes_equals_torchvision(count: int, frame: int) -> None:
    boxes, scores = random_boxes(count, side=20, frame=frame)
    expected = torchvision.ops.nms(boxes, scores, 0.5).tolist()
    assert kept(boxes, scores, 0.5) == expected
    assert kept(boxes, scores, 0.5, max_keep=100) == expected[:100]


def test_nms_across_blocks_equals_a_loop_over_boxes() -> None:
    boxes, scores = random_boxes(600, side=30, frame=100)
    scores[::7] = -INF
    assert kept(boxes, scores, 0.3) == oracle.nms(boxes.double().numpy(), scores.numpy(), 0.3)


def test_nms_of_a_long_chain_in_which_each_box_overlaps_the_next() -> None:
    left = torch.arange(1000.0) * 3
    boxes = torch.stack((left, left * 0, left + 10, left * 0 + 10), dim=1)  # neighbors: 7/13, next but one: 4/16
    assert kept(boxes, -left, 0.5) == list(range(0, 1000, 2))


def test_nms_is_a_sound_operator_for_compilers_and_exporters() -> None:
    boxes, scores = random_boxes(20, side=10, frame=20)
    arguments = (boxes.view(2, 10, 4), scores.view(2, 10), 0.5, 6)
    torch.library.opcheck(torch.ops.frcnn.nms.default, arguments)


def test_nms_has_the_same_shape_without_data() -> None:
    keep = torch.ops.frcnn.nms(torch.empty(3, 9, 4, device="meta"), torch.empty(3, 9, device="meta"), 0.5, 5)
    assert (keep.shape, keep.dtype, keep.device.type) == ((3, 5), torch.int64, "meta")


# ------------------------------------------------------------------------------------------------------- proposals


def proposals(
    anchors: Tensor,
    logits: Tensor,
    *,
    deltas: Tensor | None = None,
    image_size: tuple[float, float] = (100.0, 100.0),
    original_size: tuple[float, float] | None = None,
    pre_nms_top_n: int = 1000,
    post_nms_top_n: int = 5,
    min_size: float = 0.0,
    per_level: Sequence[int] | None = None,
    **rules: Any,
) -> Proposals:
    """Of images of one size; `logits` is (B, N); one level unless `per_level` says otherwise."""
    count = len(logits)
    deltas = torch.zeros(count, len(anchors), 4) if deltas is None else deltas
    rpn = RpnOutput(logits, deltas, anchors, list(per_level or [len(anchors)]))
    return select_proposals(
        rpn,
        torch.tensor([image_size] * count),
        torch.tensor([original_size or image_size] * count),
        pre_nms_top_n=pre_nms_top_n,
        nms_threshold=0.7,
        post_nms_top_n=post_nms_top_n,
        min_size=min_size,
        **rules,
    )


APART = torch.tensor([[0.0, 0, 20, 20], [30, 30, 60, 50], [70, 0, 90, 40]])


def test_proposals_come_by_falling_score_then_fillers() -> None:
    selected = proposals(APART, torch.tensor([[0.0, 2.0, -1.0]]), min_size=0.0)
    assert_close(selected.boxes[0, :3], APART[[1, 0, 2]])
    assert_close(selected.scores, torch.tensor([[2.0, 0.0, -1.0, -INF, -INF]]).sigmoid())
    assert selected.valid.tolist() == [[True, True, True, False, False]]  # a fixed number


def test_proposals_are_decoded_and_clipped_to_their_image() -> None:
    deltas = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])  # a width to the right
    selected = proposals(APART, torch.tensor([[3.0, 2.0, 1.0]]), deltas=deltas, image_size=(35.0, 80.0))
    assert selected.boxes[0, :3].tolist() == [[20, 0, 40, 20], [30, 30, 60, 35], [70, 0, 80, 35]]


def test_overlapping_proposals_are_dropped() -> None:
    anchors = torch.cat((APART, APART + 1))
    selected = proposals(anchors, torch.arange(6.0)[None])
    assert_close(valid_only(selected.boxes, selected.valid)[0], anchors[[5, 4, 3]])
    assert selected.valid.tolist() == [[True, True, True, False, False]]


def test_min_size_is_in_pixels_of_the_original_image() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])  # sides 20 x 20, 30 x 20, 20 x 40
    small = proposals(APART, logits, original_size=(100.0, 100.0), min_size=21.0)
    assert not small.valid.any()
    enlarged = proposals(APART, logits, original_size=(100.0, 200.0), min_size=21.0)  # twice as wide: by 1 too low
    assert_close(valid_only(enlarged.boxes, enlarged.valid)[0], APART[[2]])
    assert proposals(APART, logits, min_size=20.0).valid.sum() == 3


def test_small_boxes_do_not_count_in_pre_nms_top_n() -> None:
    anchors = torch.tensor([[0.0, 0, 5, 5], [10, 10, 15, 15], [20, 20, 60, 60], [70, 70, 99, 99]])
    selected = proposals(anchors, torch.tensor([[9.0, 8.0, 1.0, 2.0]]), pre_nms_top_n=2, min_size=16.0)
    assert_close(valid_only(selected.boxes, selected.valid)[0], anchors[[3, 2]])


def test_small_boxes_may_count_in_pre_nms_top_n() -> None:
    anchors = torch.tensor([[0.0, 0, 5, 5], [10, 10, 15, 15], [20, 20, 60, 60], [70, 70, 99, 99]])
    logits = torch.tensor([[9.0, 8.0, 1.0, 2.0]])
    selected = proposals(anchors, logits, pre_nms_top_n=3, min_size=16.0, drop_small="after_top_n")
    assert_close(valid_only(selected.boxes, selected.valid)[0], anchors[[3]])


def test_proposals_of_little_objectness_are_dropped() -> None:
    selected = proposals(APART, torch.tensor([[0.0, 2.0, -1.0]]), score_threshold=0.5)
    assert_close(valid_only(selected.boxes, selected.valid)[0], APART[[1, 0]])


def test_levels_of_a_pyramid_do_not_compete_in_nms_nor_before_it() -> None:
    anchors = torch.cat((APART, APART + 0.1))
    logits = torch.tensor([[1.0, 2.0, 3.0, 6.0, 5.0, 4.0]])
    assert proposals(anchors, logits, post_nms_top_n=6).valid.sum() == 3
    selected = proposals(anchors, logits, per_level=[3, 3], post_nms_top_n=6)
    assert_close(selected.boxes[0], anchors[[3, 4, 5, 2, 1, 0]])
    best = proposals(anchors, logits, per_level=[3, 3], pre_nms_top_n=2, post_nms_top_n=6)
    assert_close(valid_only(best.boxes, best.valid)[0], anchors[[3, 4, 2, 1]])  # two of each level
    assert_close(proposals(anchors, logits, per_level=[3, 3], post_nms_top_n=4).boxes[0], anchors[[3, 4, 5, 2]])


def test_proposals_of_a_pyramid_equal_torchvisions() -> None:
    """torchvision drops small boxes after the best of each level are chosen."""
    generator = torch.Generator().manual_seed(0)
    per_level = [600, 150, 40, 8]
    count = sum(per_level)
    corners = torch.rand(count, 2, generator=generator) * 90
    anchors = torch.cat((corners, corners + torch.rand(count, 2, generator=generator) * 20), dim=1)
    logits, deltas = torch.randn(2, count, generator=generator), torch.randn(2, count, 4, generator=generator) / 4
    network = RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5, {"testing": 100}, {"testing": 60}, 0.7, score_thresh=0.4
    ).eval()
    network.min_size = 4.0
    decoded = network.box_coder.decode(deltas.view(-1, 4), [anchors, anchors]).view(2, -1, 4)
    boxes, scores = network.filter_proposals(decoded, logits, [(100, 100)] * 2, per_level)
    selected = proposals(
        anchors,
        logits,
        deltas=deltas,
        per_level=per_level,
        pre_nms_top_n=100,
        post_nms_top_n=60,
        min_size=4.0,
        drop_small="after_top_n",
        score_threshold=0.4,
    )
    for ours, theirs in zip(valid_only(selected.boxes, selected.valid), boxes, strict=True):
        assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    for ours, theirs in zip(valid_only(selected.scores, selected.valid), scores, strict=True):
        assert_close(ours, theirs)
    assert selected.valid.any()


def test_pre_nms_top_n_keeps_the_best_before_nms() -> None:
    anchors = torch.cat((APART[:1], APART[:1] + 0.1, APART[1:]))
    selected = proposals(anchors, torch.tensor([[4.0, 3.0, 2.0, 1.0]]), pre_nms_top_n=2)
    assert_close(valid_only(selected.boxes, selected.valid)[0], anchors[[0]])


def test_post_nms_top_n_keeps_the_best_after_nms() -> None:
    selected = proposals(APART, torch.tensor([[1.0, 3.0, 2.0]]), post_nms_top_n=2)
    assert_close(selected.boxes[0], APART[[1, 2]])


def test_proposals_of_a_batch_equal_those_of_each_image() -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(300, 4, generator=generator).mul(50).cumsum(1)
    logits, deltas = torch.randn(3, 300, generator=generator), torch.randn(3, 300, 4, generator=generator) / 4
    together = proposals(anchors, logits, deltas=deltas, post_nms_top_n=50, min_size=10.0)
    for image in range(3):
        one = slice(image, image + 1)
        alone = proposals(anchors, logits[one], deltas=deltas[one], post_nms_top_n=50, min_size=10.0)
        for of_batch, of_one in zip(together, alone, strict=True):
            assert_close(of_batch[one], of_one)


def test_proposals_have_no_gradient() -> None:
    logits, deltas = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, 4, requires_grad=True)
    selected = proposals(APART, logits, deltas=deltas)
    assert not selected.boxes.requires_grad
    assert not selected.scores.requires_grad


# ------------------------------------------------------------------------------------------------------ detections


def detections(
    rois: Tensor,
    probabilities: Tensor,
    *,
    deltas: Tensor | None = None,
    valid: Tensor | None = None,
    image_size: tuple[float, float] = (100.0, 100.0),
    original_size: tuple[float, float] | None = None,
    score_threshold: float = 0.0,
    max_detections: int = 10,
    mean: Tensor = ZEROS,
    std: Tensor = ONES,
) -> DetectionTensors:
    """Of images of one size; `rois` is (B, K, 4), `probabilities` (B, K, 1 + C)."""
    batch, count, columns = probabilities.shape
    return select_detections(
        RoiOutput(probabilities.log(), torch.zeros(batch, count, columns, 4) if deltas is None else deltas),
        Proposals(
            rois, torch.ones(batch, count), torch.ones(batch, count, dtype=torch.bool) if valid is None else valid
        ),
        torch.tensor([image_size] * batch),
        torch.tensor([original_size or image_size] * batch),
        mean=mean,
        std=std,
        score_threshold=score_threshold,
        nms_threshold=0.5,
        max_detections=max_detections,
    )


def listed(selected: DetectionTensors, image: int = 0) -> list[tuple[int, float, list[float]]]:
    """(label, score, box) of each valid detection."""
    chosen = selected.valid[image]
    return [
        (label, round(score, 4), box)
        for label, score, box in zip(
            selected.labels[image, chosen].tolist(),
            selected.scores[image, chosen].tolist(),
            selected.boxes[image, chosen].tolist(),
            strict=True,
        )
    ]


def test_a_roi_may_give_a_detection_of_each_class() -> None:
    selected = detections(APART[None, :1], torch.tensor([[[0.2, 0.5, 0.3]]]))
    assert listed(selected) == [(1, 0.5, [0, 0, 20, 20]), (2, 0.3, [0, 0, 20, 20])]


def test_nms_is_within_a_class_only() -> None:
    rois = torch.tensor([[[0.0, 0, 20, 20], [0, 0, 20, 19]]])
    selected = detections(rois, torch.tensor([[[0.2, 0.7, 0.1], [0.1, 0.3, 0.6]]]))
    assert listed(selected) == [(1, 0.7, [0, 0, 20, 20]), (2, 0.6, [0, 0, 20, 19])]


def test_detections_under_the_score_threshold_and_of_background_are_dropped() -> None:
    probabilities = torch.tensor([[[0.6, 0.1, 0.3], [0.0, 0.9, 0.1], [0.5, 0.25, 0.25]]])
    selected = detections(APART[None], probabilities, score_threshold=0.28)
    assert listed(selected) == [(1, 0.9, [30, 30, 60, 50]), (2, 0.3, [0, 0, 20, 20])]
    assert (selected.scores[~selected.valid] == 0).all()


def test_invalid_proposals_give_no_detections() -> None:
    selected = detections(APART[None], torch.tensor([[[0.1, 0.9]] * 3]), valid=torch.tensor([[False, True, False]]))
    assert listed(selected) == [(1, 0.9, [30, 30, 60, 50])]


def test_each_class_has_its_own_box_clipped_and_in_pixels_of_the_original() -> None:
    deltas = torch.zeros(1, 1, 3, 4)
    deltas[0, 0, 1] = torch.tensor([10.0, 0, 0, 0])  # times std 0.1: a width to the right
    deltas[0, 0, 2] = torch.tensor([0.0, -5, 0, 0])  # half a height up, out of the image
    deltas[0, 0, 0] = 99  # background has no box
    selected = detections(
        APART[None, :1],
        torch.tensor([[[0.1, 0.5, 0.4]]]),
        deltas=deltas,
        std=torch.tensor([0.1, 0.1, 0.2, 0.2]),
        image_size=(50.0, 30.0),
        original_size=(100.0, 90.0),
    )
    boxes = torch.tensor([[20.0, 0, 30, 20], [0, 0, 20, 10]]) * torch.tensor([3.0, 2, 3, 2])
    assert_close(valid_only(selected.boxes, selected.valid)[0], boxes)


def test_max_detections_keeps_the_best_of_all_classes() -> None:
    probabilities = torch.tensor([[[0.1, 0.9, 0.0], [0.2, 0.2, 0.6], [0.3, 0.7, 0.0]]])
    selected = detections(APART[None], probabilities, max_detections=2)
    assert [(label, score) for label, score, _ in listed(selected)] == [(1, 0.9), (1, 0.7)]
    assert selected.boxes.shape == (1, 2, 4)


def test_detections_equal_a_loop_over_images_and_classes() -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.randint(0, 70, (2, 60, 2), generator=generator)
    rois = torch.cat((corners, corners + torch.randint(1, 30, (2, 60, 2), generator=generator)), dim=2).float()
    probabilities = torch.randn(2, 60, 4, generator=generator).mul(2).softmax(2)
    selected = detections(rois, probabilities, score_threshold=0.1, max_detections=20)
    for image in range(2):
        expected = []
        for label in range(1, 4):
            scores = probabilities[image, :, label]
            usable = (scores >= 0.1).nonzero().flatten()
            keep = usable[torchvision.ops.nms(rois[image, usable], scores[usable], 0.5)]
            expected += [(label, round(scores[k].item(), 4), rois[image, k].tolist()) for k in keep]
        expected.sort(key=lambda detection: -detection[1])
        assert listed(selected, image) == expected[:20]
