"""The losses, by hand."""

import math

import pytest
import strategies
import torch
from hypothesis import given
from oracles import losses as oracle
from torch.testing import assert_close

from frcnn.ops.losses import roi_losses, rpn_losses, smooth_l1

LN2, LN3 = math.log(2), math.log(3)


@pytest.mark.parametrize(
    ("difference", "sigma", "expected"),
    [
        (0.0, 1.0, 0.0),
        (0.5, 1.0, 0.125),
        (1.0, 1.0, 0.5),
        (-2.0, 1.0, 1.5),
        (0.1, 3.0, 0.045),  # 0.5 * 9 * 0.01
        (1 / 9, 3.0, 1 / 18),  # where the two pieces meet
        (1.0, 3.0, 1 - 1 / 18),
    ],
)
def test_smooth_l1_by_hand(difference: float, sigma: float, expected: float) -> None:
    value = smooth_l1(torch.tensor([5 + difference]), torch.tensor([5.0]), sigma=sigma)
    assert_close(value, torch.tensor([expected]), rtol=1e-5, atol=1e-6)


@given(strategies.numbers(-5, 5), strategies.numbers(0.5, 4))
def test_smooth_l1_equals_its_formula(difference: float, sigma: float) -> None:
    value = smooth_l1(torch.tensor(difference), torch.tensor(0.0), sigma=sigma)
    assert_close(value, torch.tensor(oracle.smooth_l1(difference, sigma)), rtol=1e-4, atol=1e-6)


def test_rpn_losses_by_hand() -> None:
    # Two undecided anchors: log 2 each. The object is off by 1 in dx: 1 - 1/18; the background's deltas do not count.
    deltas = torch.tensor([[1.0, 0, 0, 0], [9, 9, 9, 9]])
    objectness, box = rpn_losses(torch.zeros(2), deltas, torch.tensor([1, 0]), torch.zeros(2, 4), sigma=3.0)
    assert_close(objectness, torch.tensor(LN2))
    assert_close(box, torch.tensor((1 - 1 / 18) / 2))


def test_rpn_objectness_by_hand() -> None:
    # log(1 + e^-2) for the right one, log(1 + e^2) for the wrong one
    logits, nothing = torch.tensor([2.0, 2.0]), torch.zeros(2, 4)
    objectness, _ = rpn_losses(logits, nothing, torch.tensor([1, 0]), nothing, sigma=3.0)
    assert_close(objectness, torch.tensor((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2))


def test_roi_losses_by_hand() -> None:
    # Three undecided RoIs of background and two classes: log 3 each. RoI 0 is of class 2 and off by 2 in dy there
    # (1.5) and by 0.5 in dh (0.125); its deltas for class 1 do not count, nor do those of background.
    deltas = torch.full((3, 3, 4), 7.0)
    deltas[0, 2] = torch.tensor([0.0, 2, 0, -0.5])
    deltas[1, 1] = 0
    labels = torch.tensor([2, 1, 0])
    classification, box = roi_losses(torch.zeros(3, 3), deltas, labels, torch.zeros(3, 4), sigma=1.0)
    assert_close(classification, torch.tensor(LN3))
    assert_close(box, torch.tensor((1.5 + 0.125) / 3))


def test_roi_classification_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3), 0.0]])  # softmax (1/5, 3/5, 1/5)
    nothing = torch.zeros(1, 3, 4)
    for label, probability in ((0, 1 / 5), (1, 3 / 5)):
        loss, _ = roi_losses(logits, nothing, torch.tensor([label]), torch.zeros(1, 4), sigma=1.0)
        assert_close(loss, torch.tensor(-math.log(probability)))


def test_only_the_own_class_of_a_foreground_roi_has_a_box_gradient() -> None:
    deltas = torch.ones(2, 3, 4, requires_grad=True)
    _, box = roi_losses(torch.zeros(2, 3), deltas, torch.tensor([2, 0]), torch.zeros(2, 4), sigma=1.0)
    box.backward()
    has_gradient = (deltas.grad != 0).any(dim=-1)
    assert has_gradient.tolist() == [[False, False, True], [False, False, False]]


@pytest.mark.parametrize("samples", [0, 4])
def test_without_objects_the_losses_and_their_gradients_are_finite(samples: int) -> None:
    logits, deltas = torch.zeros(samples, requires_grad=True), torch.ones(samples, 4, requires_grad=True)
    labels, targets = torch.zeros(samples, dtype=torch.int64), torch.zeros(samples, 4)
    objectness, box = rpn_losses(logits, deltas, labels, targets, sigma=3.0)
    (objectness + box).backward()
    assert_close(objectness, torch.tensor(LN2 if samples else 0.0))
    assert box.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (deltas.grad == 0).all()

    logits, deltas = torch.zeros(samples, 3, requires_grad=True), torch.ones(samples, 3, 4, requires_grad=True)
    classification, box = roi_losses(logits, deltas, labels, targets, sigma=1.0)
    (classification + box).backward()
    assert_close(classification, torch.tensor(LN3 if samples else 0.0))
    assert box.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (deltas.grad == 0).all()


def test_targets_of_background_are_ignored() -> None:
    # Background has no box: its target may be anything, even infinite.
    targets = torch.tensor([[0.0] * 4, [math.inf, math.nan, -math.inf, 0]])
    _, box = rpn_losses(torch.zeros(2), torch.ones(2, 4), torch.tensor([1, 0]), targets, sigma=1.0)
    assert_close(box, torch.tensor(4 * 0.5 / 2))
    _, box = roi_losses(torch.zeros(2, 2), torch.ones(2, 2, 4), torch.tensor([1, 0]), targets, sigma=1.0)
    assert_close(box, torch.tensor(4 * 0.5 / 2))
