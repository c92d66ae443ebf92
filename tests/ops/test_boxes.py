"""Box arithmetic."""

import pytest
import strategies
import torch
import torchvision
from hypothesis import given
from oracles import boxes as oracle
from torch.testing import assert_close

from frcnn.ops.boxes import area, clip, inside, iou, rescale


def test_area_is_width_times_height_without_plus_one() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [10, 20, 13, 25], [-2, -2, 2, 2]])
    assert area(boxes).tolist() == [1, 15, 16]


def test_area_of_an_inverted_box_is_zero() -> None:
    boxes = torch.tensor([[5.0, 5, 1, 9], [5, 5, 9, 1], [9, 9, 1, 1]])
    assert area(boxes).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0.0, 0, 2, 2], [1.0, 0, 3, 2], 2 / 6),
        ([0.0, 0, 10, 10], [0.0, 0, 10, 5], 0.5),
        ([0.0, 0, 4, 4], [1.0, 1, 3, 3], 4 / 16),
        ([0.0, 0, 1, 1], [1.0, 0, 2, 1], 0.0),  # they touch; with "+1" they would overlap
        ([0.0, 0, 1, 1], [5.0, 5, 6, 6], 0.0),
        ([3.0, 3, 3, 3], [3.0, 3, 3, 3], 0.0),  # empty
    ],
)
def test_iou_by_hand(a: list[float], b: list[float], expected: float) -> None:
    assert_close(iou(torch.tensor([a]), torch.tensor([b])), torch.tensor([[expected]]))


@given(strategies.boxes(), strategies.boxes())
def test_iou_is_symmetric_and_between_0_and_1(a: torch.Tensor, b: torch.Tensor) -> None:
    overlaps = iou(a, b)
    assert overlaps.shape == (len(a), len(b))
    assert_close(overlaps, iou(b, a).T, rtol=0, atol=0)
    assert ((overlaps >= 0) & (overlaps <= 1)).all()


@given(strategies.boxes(min_side=1))
def test_iou_of_a_box_with_itself_is_1(boxes: torch.Tensor) -> None:
    assert_close(iou(boxes, boxes).diagonal(), torch.ones(len(boxes)))


@given(strategies.crowded_boxes(), strategies.crowded_boxes())
def test_iou_equals_a_loop_over_pairs(a: torch.Tensor, b: torch.Tensor) -> None:
    assert_close(iou(a, b), torch.from_numpy(oracle.iou_matrix(a.numpy(), b.numpy())).float())


@given(strategies.boxes(min_side=1), strategies.boxes(min_side=1))
def test_iou_equals_torchvision(a: torch.Tensor, b: torch.Tensor) -> None:
    assert_close(iou(a, b), torchvision.ops.box_iou(a, b))


def test_iou_of_a_batch_is_that_of_its_images() -> None:
    a, b = torch.rand(2, 3, 4).cumsum(-1), torch.rand(2, 5, 4).cumsum(-1)
    assert_close(iou(a, b), torch.stack([iou(a[0], b[0]), iou(a[1], b[1])]))


@given(strategies.boxes(min_count=2, max_count=2), strategies.image_sizes(count=2))
def test_clipped_boxes_lie_inside_their_own_image(boxes: torch.Tensor, sizes: torch.Tensor) -> None:
    clipped = clip(boxes, sizes)
    for box, size in zip(clipped, sizes, strict=True):
        assert inside(box[None], size).all()
    assert_close(clip(clipped, sizes), clipped, rtol=0, atol=0)


def test_clip_cuts_at_the_borders_of_each_image() -> None:
    boxes = torch.tensor([[-5.0, -6, 300, 400]]).expand(2, 1, 4)
    sizes = torch.tensor([[100.0, 200], [50, 60]])
    assert clip(boxes, sizes).tolist() == [[[0, 0, 200, 100]], [[0, 0, 60, 50]]]


def test_clip_leaves_boxes_inside_as_they_are_and_squashes_those_outside() -> None:
    boxes = torch.tensor([[[[0.0, 0, 20, 10], [3, 4, 5, 6]], [[50, 2, 60, 4], [-9, -9, -1, -1]]]])  # (1, 2, 2, 4)
    expected = torch.tensor([[[[0.0, 0, 20, 10], [3, 4, 5, 6]], [[20, 2, 20, 4], [0, 0, 0, 0]]]])
    assert_close(clip(boxes, torch.tensor([[10.0, 20]])), expected)


@given(strategies.boxes(min_count=2, max_count=2), strategies.image_sizes(count=2), strategies.image_sizes(count=2))
def test_rescale_there_and_back(boxes: torch.Tensor, small: torch.Tensor, large: torch.Tensor) -> None:
    assert_close(rescale(rescale(boxes, small, large), large, small), boxes, rtol=1e-5, atol=1e-3)


def test_rescale_scales_x_by_width_and_y_by_height() -> None:
    boxes = torch.tensor([[[1.0, 2, 3, 4]], [[1, 2, 3, 4]]])
    old, new = torch.tensor([[10.0, 10], [10, 20]]), torch.tensor([[20.0, 50], [10, 10]])
    assert rescale(boxes, old, new).tolist() == [[[5, 4, 15, 8]], [[0.5, 2, 1.5, 4]]]


def test_inside_allows_the_border_and_nothing_beyond() -> None:
    size = torch.tensor([10.0, 20])  # height, width
    boxes = torch.tensor(
        [[0.0, 0, 20, 10], [-0.1, 0, 5, 5], [0, -0.1, 5, 5], [0, 0, 20.1, 5], [0, 0, 5, 10.1], [0, 0, 10, 20]]
    )
    assert inside(boxes, size).tolist() == [True, False, False, False, False, False]
