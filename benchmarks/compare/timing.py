"""Fair timing on a busy machine: in each round all ways take turns, and medians are taken over rounds."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

OURS = "frcnn"
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_PATIENCE = 5  # seconds for a process to end by itself


class Row(NamedTuple):
    """One piece of work, done in several ways."""

    what: str
    """ops, predict, train, data or eval."""
    work: str
    """Description with sizes."""
    check: str
    """What was checked to be equal before timing."""
    seconds: dict[str, list[float]]
    """Seconds of each round, by name of the way; OURS is one of them."""
    gflop: float | None = None
    """Of the layers in one call: multiplications and additions of convolutions and matrix products."""
    precision: str = "fp32"
    """Of the layers of frcnn."""

    def median(self, way: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[way])

    def ratio(self, way: str) -> float:
        """How many times faster frcnn is: the median over rounds, since a slow moment slows both ways of its round."""
        rounds = zip(self.seconds[way], self.seconds[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in rounds)


def interleaved(
    ways: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Seconds of each call, by way. The first round warms up and is not counted.

    Each call is made twice, and the second one is timed. The first one finds the caches and threads of another way,
    perhaps of another process whose threads still wait actively for work.

    Args:
        device: a GPU to synchronize with before the clock is read; None: the CPU.
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
    """Run `make(*arguments)` in its own process; calling the result calls the function that it returned there.

    So torchvision runs as its users run it, with Python's default memory allocator (compare `frcnn.fast.malloc`).

    Args:
        make: a function of a module, so that another process can import it. A script that calls this needs
            `if __name__ == "__main__"`.

    Raises:
        Exception: by a call: the error of `make` or of the function.
        RuntimeError: by a call: the process was killed.
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
    """Make one call per message."""
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
    """Wait for a message; False if there are no more."""
    try:
        calls.recv()
    except EOFError:
        return False
    return True
