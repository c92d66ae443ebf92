"""The random, balanced sample."""

import hypothesis.strategies as st
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given

from frcnn.ops.sampler import sample


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(-1, 3), max_size=30), st.sampled_from((4, 8, 16)), st.sampled_from((0.0, 0.25, 0.5, 1.0)))
def test_sample_is_balanced_as_large_as_can_be_and_foreground_first(
    values: list[int], size: int, positive_fraction: float
) -> None:
    labels = torch.tensor(values, dtype=torch.int64)
    chosen = sample(labels, size=size, positive_fraction=positive_fraction, generator=generator())
    foreground = min(sum(v >= 1 for v in values), int(size * positive_fraction))
    background = min(sum(v == 0 for v in values), size - foreground)
    assert len(set(chosen.tolist())) == len(chosen) == foreground + background
    assert (labels[chosen[:foreground]] >= 1).all()
    assert (labels[chosen[foreground:]] == 0).all()


def test_background_replaces_missing_foreground() -> None:
    labels = torch.tensor([1] + [0] * 99)
    chosen = sample(labels, size=16, positive_fraction=0.5, generator=generator())
    assert labels[chosen].tolist() == [1] + [0] * 15


def test_foreground_does_not_replace_missing_background() -> None:
    labels = torch.tensor([2] * 50 + [0] * 3)
    chosen = sample(labels, size=16, positive_fraction=0.25, generator=generator())
    assert labels[chosen].tolist() == [2] * 4 + [0] * 3


def test_image_without_objects_gives_background_only() -> None:
    assert len(sample(torch.zeros(40, dtype=torch.int64), size=16, positive_fraction=0.5, generator=generator())) == 16


def test_nothing_to_sample() -> None:
    assert sample(torch.full((5,), -1), size=16, positive_fraction=0.5, generator=generator()).tolist() == []


def test_same_seed_same_sample_and_another_seed_another() -> None:
    labels = torch.arange(1000) % 3 - 1
    first, again, other = (
        sample(labels, size=64, positive_fraction=0.5, generator=generator(seed)).tolist() for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_every_candidate_is_sampled_eventually() -> None:
    labels, source = torch.tensor([1] * 10 + [0] * 10), generator()
    drawn = torch.cat([sample(labels, size=4, positive_fraction=0.5, generator=source) for _ in range(200)])
    assert sorted(set(drawn.tolist())) == list(range(20))
    assert (drawn.bincount() > 20).all()  # 40 each on average
