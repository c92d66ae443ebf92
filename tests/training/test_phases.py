"""Training schemes as data."""

import pytest

from frcnn.config import TrainSettings, make_config
from frcnn.training.schemes import Part, alternating, end_to_end, phases_of

BACKBONE, RPN, HEAD = Part.BACKBONE, Part.RPN, Part.ROI_HEAD


def test_end_to_end_is_one_phase_that_trains_everything() -> None:
    (phase,) = end_to_end(TrainSettings(epochs=7, lr=(0.1, 0.2)))
    assert phase == ("end to end", frozenset(Part), frozenset(), 7, (0.1, 0.2))
    assert not phase.uses_stored_proposals


def test_alternating_is_the_four_steps_of_the_paper() -> None:
    """Section 3.2: (1) the RPN; (2) the detector, from the base model's weights again, by the proposals of step 1;
    (3) the RPN's own layers on fixed shared conv layers; (4) the detector's own layers, by the proposals of step 3."""
    phases = alternating(TrainSettings())
    assert [(phase.name, set(phase.train), set(phase.restart), phase.uses_stored_proposals) for phase in phases] == [
        ("1 rpn", {BACKBONE, RPN}, set(), False),
        ("2 roi", {BACKBONE, HEAD}, {BACKBONE}, True),
        ("3 rpn", {RPN}, set(), False),
        ("4 roi", {HEAD}, set(), True),
    ]


def test_the_tutorial_alternates_with_its_epochs_and_rates() -> None:
    """CNTK.RPN_EPOCHS and RPN_LR_PER_SAMPLE, FRCN_EPOCHS and FRCN_LR_PER_SAMPLE."""
    rpn, roi = (16, (0.001,) * 12 + (0.0001,) * 4), (8, (0.001,) * 6 + (0.0001,) * 2)
    assert [(phase.epochs, phase.lr) for phase in alternating(make_config(recipe="tutorial").train)] == [
        rpn,
        roi,
        rpn,
        roi,
    ]


def test_step_3_may_begin_with_a_new_rpn() -> None:
    phases = alternating(TrainSettings(restart_rpn=True))
    assert [set(phase.restart) for phase in phases] == [set(), {BACKBONE}, {RPN}, set()]


@pytest.mark.parametrize("scheme", ["end_to_end", "alternating"])
def test_conv_layers_can_be_frozen(scheme: str) -> None:
    for phase in phases_of(TrainSettings.model_validate({"scheme": scheme, "train_backbone": False})):
        assert BACKBONE not in phase.train | phase.restart


@pytest.mark.parametrize(("scheme", "count"), [("end_to_end", 1), ("alternating", 4)])
def test_a_smoke_test_is_one_epoch_of_each_phase(scheme: str, count: int) -> None:
    phases = phases_of(TrainSettings.model_validate({"scheme": scheme, "smoke_test": True}))
    assert [phase.epochs for phase in phases] == [1] * count
