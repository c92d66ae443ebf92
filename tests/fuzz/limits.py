"""Limits on the time, the memory and the outcome of one case."""

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

MAX_SECONDS, MAX_BYTES = 10, 2 << 30
_MAX_LINES, _MAX_CHARACTERS = 40, 20_000  # a data set's errors are listed, up to ten of them


class Outcome(NamedTuple):
    """How a case ended."""

    error: str | None
    """The error message; None: there is a result."""
    seconds: float
    bytes: int
    """How much the process grew."""


class TookTooLongError(BaseException):
    """A BaseException, so that `except Exception` does not catch it."""


def run_limited(case: Callable[[], object]) -> Outcome:
    """Run a case that must end in a result or in a clear error, within the limits.

    Raises:
        AssertionError: it does not.
    """
    start, before = time.monotonic(), _peak(reset=True)
    error: str | None = None
    with _limits():
        try:
            case()
        except (ValueError, OSError) as raised:
            error = str(raised)
    taken, grown = time.monotonic() - start, max(0, _peak() - before)
    assert taken < MAX_SECONDS, f"{taken:.1f} s"
    assert grown < MAX_BYTES, f"{grown >> 20} MB"
    if error is not None:
        assert error.strip(), "an error without a text"
        assert len(error) < _MAX_CHARACTERS, f"an error of {len(error)} characters: {error[:300]}"
        assert error.count("\n") < _MAX_LINES, f"an error of {error.count(chr(10))} lines: {error[:300]}"
    return Outcome(error, taken, grown)


@contextmanager
def _limits() -> Iterator[None]:
    """The memory is limited so that a case cannot take down the computer; the rest is measured."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + 2 * MAX_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak(*, reset: bool = False) -> int:
    """The most memory that the process has held, bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * _status("VmHWM")


def _data_bytes() -> int:
    return 1024 * _status("VmData")


def _status(name: str) -> int:
    """kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
