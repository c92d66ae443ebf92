"""Seeds that depend on given numbers alone, so that training resumes at any step without a saved random state."""

from collections.abc import Sequence

import numpy as np
import torch


def seed_of(*numbers: int) -> int:
    """The seed of these numbers, e.g. (seed, epoch, image); none is negative."""
    entropy = (len(numbers), *numbers)  # (1, 2) and (1, 2, 0) are the same to SeedSequence
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def generator_of(*numbers: int) -> torch.Generator:
    """A generator on the CPU with the seed `seed_of(*numbers)`."""
    return torch.Generator().manual_seed(seed_of(*numbers))


def seed_dropout(seeds: Sequence[tuple[int, ...]]) -> None:
    """Seed dropout from the images of a batch, so that it does not depend on the process or on earlier steps."""
    torch.manual_seed(seed_of(*seeds[0], 0))
