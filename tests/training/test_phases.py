"""Training schemes as data."""

import pytest

from frcnn.config import TrainSettings
from frcnn.training.phases import Part, end_to_end


def test_end_to_end_is_one_phase_that_trains_everything() -> None:
    (phase,) = end_to_end(TrainSettings(epochs=7, lr=(0.1, 0.2)))
    assert phase == ("end to end", frozenset(Part), 7, (0.1, 0.2))


def test_conv_layers_can_be_left_out() -> None:
    (phase,) = end_to_end(TrainSettings(conv_layers=False))
    assert phase.train == {Part.RPN, Part.ROI_HEAD}


@pytest.mark.parametrize(("fast", "epochs"), [(True, 1), (False, 20)])
def test_fast_mode_is_one_epoch(fast: bool, epochs: int) -> None:
    (phase,) = end_to_end(TrainSettings(fast=fast))
    assert phase.epochs == epochs
