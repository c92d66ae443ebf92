"""Seeds: they depend on the given numbers alone."""

import torch

from frcnn.seeds import generator_of, seed_of


def test_a_generator_depends_on_its_numbers_alone() -> None:
    draws = [
        torch.rand(4, generator=generator_of(*numbers)).tolist() for numbers in ((1, 2), (1, 2), (2, 1), (1, 2, 0))
    ]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3
    assert len({seed_of(1, epoch, image) for epoch in range(30) for image in range(30)}) == 900
