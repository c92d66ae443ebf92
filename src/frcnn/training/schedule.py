"""Where training stands, and the learning rate there: pure functions of the number of steps done."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from frcnn import processes
from frcnn.config import TrainSettings
from frcnn.training.phases import Phase


class Position(NamedTuple):
    """A step; all from 0."""

    phase: int
    """As many as there are phases: training is done."""
    epoch: int
    """Since the phase began."""
    step: int
    """Since the epoch began."""
    total_epoch: int
    """Since training began."""

    @property
    def begins_phase(self) -> bool:
        return (self.epoch, self.step) == (0, 0)


def locate(step: int, phases: Sequence[Phase], steps_per_epoch: int) -> Position:
    """The place of a step, counted from 0 over all phases."""
    total_epoch, in_epoch = divmod(step, steps_per_epoch)
    epoch = total_epoch
    for number, phase in enumerate(phases):
        if epoch < phase.epochs:
            return Position(number, epoch, in_epoch, total_epoch)
        epoch -= phase.epochs
    return Position(len(phases), 0, 0, total_epoch)


def images_per_step(settings: TrainSettings) -> int:
    """Of all processes together."""
    return settings.batch_size * settings.accumulate * processes.count()


def warmup_steps(settings: TrainSettings) -> int:
    """As set; else 50 where the rate is scaled up for several images a step (Goyal et al. 2017, arXiv:1706.02677,
    section 2.2, take some epochs of a large set)."""
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return 0 if images_per_step(settings) == 1 else 50


def learning_rate(
    rates: Sequence[float], *, step: int, steps_per_epoch: int, epochs: int, warmup_steps: int, decay: str
) -> float:
    """The learning rate of one step.

    Args:
        rates: of each epoch; the last one goes on.
        step: since the phase began, from 0.
        warmup_steps: the rate rises linearly over so many steps.
        decay: "none", or "cosine": half a cosine from 1 to 0 over the phase is multiplied on it.
    """
    rate = rates[min(step // steps_per_epoch, len(rates) - 1)]
    if decay == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
    if step < warmup_steps:
        rate *= (step + 1) / (warmup_steps + 1)
    return rate
