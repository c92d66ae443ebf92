"""A random, balanced sample of examples. Letters: N candidates, S sampled."""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def sample(labels: Int[Tensor, "N"], *, size: int, fg_fraction: float, generator: torch.Generator) -> Int[Tensor, "S"]:
    """At most `size` candidates, at most `fg_fraction` of it foreground, the rest background.

    Args:
        labels: >= 1 foreground, 0 background, -1 never sampled.
        generator: on the CPU, so that the same seed draws the same sample on every device.

    Returns:
        Indices, foreground first. Fewer than `size` where there are too few of background.

    Source:
        Ren et al. 2015, section 3.1.3 (256 anchors, half positive); Girshick 2015, section 2.3 (128 RoIs,
        a quarter foreground).
    """

    def draw(candidates: Tensor, count: int) -> Tensor:
        order = torch.randperm(len(candidates), generator=generator)[:count]
        return candidates[order.to(candidates.device)]

    foreground = draw((labels >= 1).nonzero().flatten(), int(size * fg_fraction))
    background = draw((labels == 0).nonzero().flatten(), size - len(foreground))
    return torch.cat((foreground, background))


def seed_of(*numbers: int) -> int:
    """A seed that follows from these numbers alone, e.g. (seed, epoch, image): nothing random has to be carried from
    step to step, so training can go on from any of them, in any number of processes.

    Args:
        numbers: not negative.
    """
    entropy = (len(numbers), *numbers)  # (1, 2) and (1, 2, 0) are the same to SeedSequence
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def generator_of(*numbers: int) -> torch.Generator:
    """A generator with the `seed_of` these numbers."""
    return torch.Generator().manual_seed(seed_of(*numbers))
