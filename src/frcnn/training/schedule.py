"""The position in training, and the learning rate: pure functions of the number of steps done."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from frcnn import distributed
from frcnn.config import TrainSettings
from frcnn.training.schemes import Phase


class Position(NamedTuple):
    """The position of a step; all indices start at 0."""

    phase: int
    """Equals `len(phases)` when training has finished."""
    epoch: int
    """Within the phase."""
    step: int
    """Within the epoch."""
    total_epoch: int
    """Over all phases."""

    @property
    def begins_phase(self) -> bool:
        """Whether this is the first step of its phase."""
        return (self.epoch, self.step) == (0, 0)


def locate(step: int, phases: Sequence[Phase], steps_per_epoch: int) -> Position:
    """The position of a step.

    Args:
        step: index over all phases.
        steps_per_epoch: all processes together.
    """
    total_epoch, in_epoch = divmod(step, steps_per_epoch)
    epoch = total_epoch
    for number, phase in enumerate(phases):
        if epoch < phase.epochs:
            return Position(number, epoch, in_epoch, total_epoch)
        epoch -= phase.epochs
    return Position(len(phases), 0, 0, total_epoch)


def images_per_step(settings: TrainSettings) -> int:
    """Images in one step of the optimizer, all processes together."""
    return settings.batch_size * settings.accumulate * distributed.world_size()


def warmup_steps(settings: TrainSettings) -> int:
    """`train.warmup_steps`; if that is None, 50 steps if a step has several images, else 0.

    Source:
        Goyal et al. 2017, arXiv:1706.02677, section 2.2. Differs: they warm up for 5 epochs of a large data set.
    """
    if settings.warmup_steps is not None:
        return settings.warmup_steps
    return 0 if images_per_step(settings) == 1 else 50


def learning_rate(
    rates: Sequence[float], *, step: int, steps_per_epoch: int, epochs: int, warmup_steps: int, decay: str
) -> float:
    """The learning rate of one step.

    Args:
        rates: of each epoch; the last one also holds for later epochs.
        step: index within the phase.
        steps_per_epoch: all processes together.
        epochs: of the phase.
        warmup_steps: number of steps over which the rate rises linearly to its value.
        decay: "none"; or "cosine": the rate is multiplied by half a cosine, from 1 to 0 over the phase.
    """
    rate = rates[min(step // steps_per_epoch, len(rates) - 1)]
    if decay == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
    if step < warmup_steps:
        rate *= (step + 1) / (warmup_steps + 1)
    return rate
