"""The learning rate, as a pure function of where training stands."""

import math
from collections.abc import Sequence


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
