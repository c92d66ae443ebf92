"""Fair timing on a noisy machine: all ways in turn, round after round, and medians of what each round says."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

OURS = "frcnn"
_PATIENCE = 5  # seconds for a process to end by itself


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

    A call is made twice, and the second one counts: the first finds threads, caches and memory as another way left
    them, perhaps in another process, whose threads wait actively for more work for a while.

    Args:
        device: of which the work must be done before the clock is read; None: the processor.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, call in ways.items():
            for _ in range(2):
                start = time.perf_counter()
                call()
                if device is not None and device.type == "cuda":
                    torch.cuda.synchronize(device)
                end = time.perf_counter()
            if number > 0:
                seconds[way].append(end - start)
    return seconds


@contextmanager
def apart(make: Callable[..., Callable[[], object]], *arguments: object) -> Iterator[Callable[[], None]]:
    """What `make(*arguments)` gives, to be called as often as one likes, but made and run in a process of its own: as
    who does not use frcnn runs it, with the memory allocator as Python has it (see `frcnn.memory`).

    Args:
        make: known by name in its module, as another process must find it; a script that calls this needs the usual
            `if __name__ == "__main__"`.

    Raises:
        Exception: from a call: what `make`, or the call, raised there.
        RuntimeError: from a call: that process was ended.
    """
    context = multiprocessing.get_context("spawn")  # a fork would have this process's allocator
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, torch.get_num_threads(), make, arguments), daemon=True)
    process.start()
    there.close()

    def call() -> None:
        try:
            with suppress(BrokenPipeError):  # it has failed, and said why
                here.send(None)
            error: Exception | None = here.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(f"{make.__name__}{arguments}: its process was ended, perhaps for its memory") from None
        if error is not None:
            raise error

    try:
        yield call
    finally:
        here.close()
        process.join(_PATIENCE)
        process.terminate()
        process.join()


def _serve(
    calls: Connection, threads: int, make: Callable[..., Callable[[], object]], given: tuple[object, ...]
) -> None:
    """A call for each message, until there are no more."""
    torch.set_num_threads(threads)
    with suppress(KeyboardInterrupt, BrokenPipeError):  # the other process tells the user
        try:
            call = make(*given)
            while _is_asked(calls):
                call()
                if torch.cuda.is_initialized():
                    torch.cuda.synchronize()
                calls.send(None)
        except Exception as error:
            calls.send(error)


def _is_asked(calls: Connection) -> bool:
    """Whether there is one more message; waits for it."""
    try:
        calls.recv()
    except EOFError:
        return False
    return True
