"""Box deltas."""

import math

import strategies
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from frcnn.ops.box_coder import decode, encode

ZEROS, ONES = torch.zeros(4), torch.ones(4)
MEAN, STD = torch.tensor([0.1, -0.1, 0.2, 0.0]), torch.tensor([0.1, 0.1, 0.2, 0.2])

# No side differs more than 60-fold.
BOXES = strategies.boxes(min_count=3, max_count=3, min_side=8, max_side=480)


@given(BOXES, BOXES, st.sampled_from([(ZEROS, ONES), (MEAN, STD)]))
def test_decode_undoes_encode(boxes: Tensor, anchors: Tensor, normalization: tuple[Tensor, Tensor]) -> None:
    mean, std = normalization
    deltas = encode(boxes, anchors, mean=mean, std=std)
    assert_close(decode(deltas, anchors, mean=mean, std=std), boxes, rtol=1e-4, atol=1e-2)


@given(
    st.lists(strategies.numbers(-3, 3), min_size=4, max_size=4), strategies.boxes(min_count=1, max_count=1, min_side=8)
)
def test_encode_undoes_decode(row: list[float], anchors: Tensor) -> None:
    deltas = torch.tensor([row])
    boxes = decode(deltas, anchors, mean=MEAN, std=STD)
    assert_close(encode(boxes, anchors, mean=MEAN, std=STD), deltas, rtol=1e-3, atol=1e-2)


def test_encode_by_hand() -> None:
    # The anchor's center is (5, 10), its size (10, 20); the box's are (15, 5) and (20, 10).
    anchor, box = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 10]])
    expected = [1.0, -0.25, math.log(2), -math.log(2)]
    assert_close(encode(box, anchor, mean=ZEROS, std=ONES), torch.tensor([expected]))

    mean, std = torch.tensor([0.5, 0.25, 0.0, 0.0]), torch.tensor([0.1, 0.5, 0.2, 0.4])
    expected = [0.5 / 0.1, -0.5 / 0.5, math.log(2) / 0.2, -math.log(2) / 0.4]
    assert_close(encode(box, anchor, mean=mean, std=std), torch.tensor([expected]))


def test_decode_by_hand() -> None:
    anchor = torch.tensor([[0.0, 0, 10, 20]])
    deltas = torch.tensor([[1.0, -0.25, math.log(2), -math.log(2)]])
    assert_close(decode(deltas, anchor, mean=ZEROS, std=ONES), torch.tensor([[5.0, 0, 25, 10]]))
    # deltas * std + mean = (0.5, 0, 0, 0): half a width to the right
    deltas, mean = torch.tensor([[2.0, -1, 0, 0]]), torch.tensor([0.3, 0.2, 0, 0])
    std = torch.tensor([0.1, 0.2, 1, 1])
    assert_close(decode(deltas, anchor, mean=mean, std=std), torch.tensor([[5.0, 0, 15, 20]]))


def test_no_side_grows_more_than_62_5_fold() -> None:
    boxes = decode(torch.tensor([[0.0, 0, 1000, 1000]]), torch.tensor([[-1.0, -2, 1, 2]]), mean=ZEROS, std=ONES)
    assert_close(boxes, torch.tensor([[-62.5, -125, 62.5, 125]]))


def test_the_limit_holds_after_denormalization() -> None:
    wide = torch.tensor([[0.0, 0, 15, 0]])  # 15 * 0.2 = 3, under the limit of log 62.5 = 4.1
    boxes = decode(wide, torch.tensor([[-1.0, -1, 1, 1]]), mean=ZEROS, std=torch.tensor([0.1, 0.1, 0.2, 0.2]))
    assert_close(boxes[0, 2], torch.tensor(math.exp(3)))


def test_decode_is_float32_for_bfloat16_deltas() -> None:
    anchors = torch.tensor([[501.0, 503, 702, 905]])
    deltas = torch.tensor([[0.3, -0.7, 0.11, 1.3]]).bfloat16()
    assert_close(decode(deltas, anchors, mean=MEAN, std=STD), decode(deltas.float(), anchors, mean=MEAN, std=STD))


def test_one_roi_serves_all_its_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(2, 3, 5, 4, generator=generator)
    rois = torch.tensor([[10.0, 10, 30, 50]]).expand(2, 3, 4) + torch.arange(6.0).view(2, 3, 1)
    boxes = decode(deltas, rois[:, :, None], mean=MEAN, std=STD)
    assert boxes.shape == (2, 3, 5, 4)
    for label in range(5):
        assert_close(boxes[:, :, label], decode(deltas[:, :, label], rois, mean=MEAN, std=STD))
