"""A random, balanced sample of anchors or RoIs. Letters: N candidates, S sampled."""

import torch
from jaxtyping import Int
from torch import Tensor


def sample(
    labels: Int[Tensor, "N"], *, size: int, positive_fraction: float, generator: torch.Generator
) -> Int[Tensor, "S"]:
    """Sample at most `size` candidates: at most `size * positive_fraction` are foreground, the rest is background.

    Args:
        labels: >= 1 foreground, 0 background, -1 never sampled.
        generator: on the CPU, so that the same seed draws the same sample on every device.

    Returns:
        Indices, foreground first. Fewer than `size` if there is too little background.

    Source:
        Ren et al. 2015, section 3.1.3 (256 anchors, half positive); Girshick 2015, section 2.3 (a quarter
        foreground). Differs: 128 RoIs of each image; Girshick takes 64 of each of two.
    """

    def draw(candidates: Tensor, count: int) -> Tensor:
        order = torch.randperm(len(candidates), generator=generator)[:count]
        return candidates[order.to(candidates.device)]

    foreground = draw((labels >= 1).nonzero().flatten(), int(size * positive_fraction))
    background = draw((labels == 0).nonzero().flatten(), size - len(foreground))
    return torch.cat((foreground, background))
