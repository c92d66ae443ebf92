"""Fair timing on a noisy machine: all ways in turn, round after round, and medians of what each round says."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

OURS = "frcnn"


class Row(NamedTuple):
    """One piece of work, done in several ways."""

    what: str
    """ops, predict, train, data or eval."""
    work: str
    """In words, with its sizes."""
    check: str
    """What was seen to be equal before it was timed."""
    seconds: dict[str, list[float]]
    """Of each round, by the name of the way; OURS among them."""
    gflop: float | None = None
    """That layers compute each time: multiplications and additions of convolutions and matrix products."""
    precision: str = "fp32"
    """Of our layers."""

    def median(self, way: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[way])

    def ratio(self, way: str) -> float:
        """How many times as fast ours is, the median over the rounds: a slow moment slows both of a round."""
        rounds = zip(self.seconds[way], self.seconds[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in rounds)


def interleaved(
    ways: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of each call, way by way, after one round that is not counted.

    Args:
        device: of which the work must be done before the clock is read; None: the processor.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            if device is not None and device.type == "cuda":
                torch.cuda.synchronize(device)
            if number > 0:
                seconds[way].append(time.perf_counter() - start)
    return seconds
