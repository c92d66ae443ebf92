"""Progress bars on a terminal; elsewhere a line every ten seconds."""

import sys
import time
from typing import Any, Self

try:
    from tqdm import tqdm
except ModuleNotFoundError:  # running exported files needs few of the packages
    tqdm = None  # type: ignore[assignment,misc]

_INTERVAL = 10.0  # seconds between lines, where there is no bar


class _Progress:
    """A bar from the first call to the end of the `with` block."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self._printed = time.monotonic()

    def print_rarely(self, line: str) -> None:
        """Print a line if the last one was some time ago, instead of a bar."""
        if time.monotonic() - self._printed >= _INTERVAL:
            self._printed = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def log(self, line: str) -> None:
        """Print a line without breaking the bar."""
        print(line) if self.bar is None else tqdm.write(line)


class DownloadProgress(_Progress):
    """A bar for each file on a terminal; else a line every ten seconds."""

    def __call__(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            self.print_rarely(f"{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
            return
        if self.bar is None or self.bar.desc != name:
            if self.bar is not None:
                self.bar.close()
            self.bar = tqdm(desc=name, unit="B", unit_scale=True, leave=False)
            self.bar.initial = self.bar.n = done  # an earlier attempt does not count for the speed
        self.bar.total = total or None
        self.bar.update(done - self.bar.n)


class CountProgress(_Progress):
    """A bar that counts; without a terminal, a line every ten seconds."""

    def __init__(self, what: str, unit: str) -> None:
        super().__init__()
        self.what, self.unit = what, unit

    def __call__(self, done: int, total: int | None) -> None:
        if tqdm is None or not sys.stderr.isatty():
            self.print_rarely(f"{self.what}: {self.unit} {done:,}{'' if total is None else f' of {total:,}'}")
            return
        if self.bar is None:
            self.bar = tqdm(desc=self.what, unit=self.unit, leave=False)
        self.bar.total = total
        self.bar.update(done - self.bar.n)
