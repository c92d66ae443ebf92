"""The learning rate of each step."""

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given

from frcnn.config import TrainSettings
from frcnn.training.schedule import learning_rate, locate
from frcnn.training.schemes import alternating


def rates_of(
    rates: Sequence[float], steps: Sequence[int], *, epochs: int = 3, warmup_steps: int = 0, decay: str = "none"
) -> list[float]:
    """Of some steps; an epoch has 4."""
    return [
        learning_rate(rates, step=step, steps_per_epoch=4, epochs=epochs, warmup_steps=warmup_steps, decay=decay)
        for step in steps
    ]


def test_one_rate_an_epoch_and_the_last_one_continues() -> None:
    rates = [0.1] * 4 + [0.01] * 4 + [0.001] * 8
    assert rates_of([0.1, 0.01, 0.001], range(16), epochs=4) == rates


def test_more_rates_than_epochs() -> None:
    assert rates_of([0.1, 0.01, 0.001], range(4), epochs=1) == [0.1] * 4


def test_warmup_rises_in_equal_steps_to_the_full_rate() -> None:
    np.testing.assert_allclose(rates_of([0.5], range(6), warmup_steps=4), [0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_warmup_longer_than_an_epoch_continues_in_the_next() -> None:
    np.testing.assert_allclose(rates_of([1.0, 0.5], [3, 4, 8, 9], warmup_steps=9), [0.4, 0.25, 0.45, 0.5])


def test_cosine_falls_from_the_full_rate_over_half_to_nearly_nothing() -> None:
    half_root = 0.5**0.5
    expected = [1, (1 + half_root) / 2, 0.5, (1 - half_root) / 2]
    np.testing.assert_allclose(rates_of([2.0], [0, 2, 4, 6], epochs=2, decay="cosine"), [2 * e for e in expected])
    (last,) = rates_of([2.0], [7], epochs=2, decay="cosine")
    assert 0 < last < 0.1


def test_cosine_is_multiplied_on_the_rates_and_on_warmup() -> None:
    np.testing.assert_allclose(rates_of([1.0, 0.1], [4], epochs=2, decay="cosine"), [0.05])
    (plain,) = rates_of([1.0], [2], epochs=2, decay="cosine")
    (warming,) = rates_of([1.0], [2], epochs=2, decay="cosine", warmup_steps=5)
    np.testing.assert_allclose(warming, plain * 3 / 6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 30), st.sampled_from(("none", "cosine")))
def test_every_rate_is_positive_and_never_above_the_one_asked_for(
    steps_per_epoch: int, epochs: int, warmup_steps: int, decay: str
) -> None:
    for step in range(steps_per_epoch * epochs):
        rate = learning_rate(
            [0.1], step=step, steps_per_epoch=steps_per_epoch, epochs=epochs, warmup_steps=warmup_steps, decay=decay
        )
        assert 0 < rate <= 0.1


@pytest.mark.parametrize("step", [0, 5, 11])
def test_the_rate_is_a_function_of_the_step_alone(step: int) -> None:
    rates = [0.3, 0.2, 0.1]
    assert (
        rates_of(rates, range(12), warmup_steps=3, decay="cosine")[step]
        == rates_of(rates, [step], warmup_steps=3, decay="cosine")[0]
    )


# ---------------------------------------------------------------------------------------------- where training stands

PHASES = alternating(TrainSettings(rpn_epochs=2, roi_epochs=1))


@pytest.mark.parametrize(
    ("step", "position"),
    [
        (0, (0, 0, 0, 0)),
        (4, (0, 0, 4, 0)),
        (5, (0, 1, 0, 1)),
        (9, (0, 1, 4, 1)),
        (10, (1, 0, 0, 2)),
        (15, (2, 0, 0, 3)),
        (29, (3, 0, 4, 5)),
        (30, (4, 0, 0, 6)),
    ],
)
def test_a_step_has_its_position(step: int, position: tuple[int, ...]) -> None:
    assert locate(step, PHASES, 5) == position
