"""How far long work is: a bar on a terminal; else a line now and then, or nothing."""

import sys
import time
from typing import TYPE_CHECKING, Any, Self

try:
    from tqdm import tqdm
except ModuleNotFoundError:  # where exported files are run, not all of frcnn's packages have to be installed
    tqdm = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from frcnn.training.loop import StepReport

_PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal for a progress bar


class _Progress:
    """A bar that is there from the first report to the end of the `with` block."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None

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

    def __init__(self) -> None:
        super().__init__()
        self.told = 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            if time.monotonic() - self.told >= _PLAIN_INTERVAL:
                self.told = time.monotonic()
                print(f"{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)
            return
        if self.bar is None or self.bar.desc != name:
            if self.bar is not None:
                self.bar.close()
            self.bar = tqdm(desc=name, unit="B", unit_scale=True, leave=False)
            self.bar.initial = self.bar.n = done  # what an earlier attempt has brought does not count for speed
        self.bar.total = total or None
        self.bar.update(done - self.bar.n)


class CountProgress(_Progress):
    """A bar that counts; nothing where the output is no terminal, since this does not take long."""

    def __init__(self, what: str, unit: str) -> None:
        super().__init__()
        self.what, self.unit = what, unit

    def __call__(self, done: int, total: int) -> None:
        if tqdm is None or not sys.stderr.isatty():
            return
        if self.bar is None:
            self.bar = tqdm(desc=self.what, unit=self.unit, leave=False)
        self.bar.total = total
        self.bar.update(done - self.bar.n)


class TrainingProgress(_Progress):
    """A bar with losses, speed, memory and time left on a terminal; else a line every ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.start = self.last = 0.0
        self.done = 0  # steps before this start
        self.losses: dict[str, float] = {}

    def __call__(self, report: "StepReport") -> None:
        now = time.monotonic()
        if not self.start:
            self.start, self.done = now - report.seconds, report.step - 1
        # Running means: single steps jump too much to be read.
        old = self.losses if self.losses.keys() >= report.losses.keys() else report.losses
        self.losses = {name: 0.95 * old[name] + 0.05 * value for name, value in report.losses.items()}
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        loss, memory = f"{sum(self.losses.values()):.3f} ({parts})", f"{report.memory / 1e9:.1f} GB"
        each = (now - self.start) / (report.step - self.done)
        speed = f"{report.images / each:.2f} images/s"
        if sys.stderr.isatty():
            if self.bar is None:
                bar_format = "{desc} {bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
                self.bar = tqdm(total=report.steps, initial=self.done, bar_format=bar_format, dynamic_ncols=True)
            self.bar.set_description(f"{report.phase}, epoch {report.epoch}", refresh=False)
            self.bar.set_postfix_str(f"{speed}, {memory}, loss {loss}", refresh=False)
            self.bar.update()
        elif now - self.last >= _PLAIN_INTERVAL or report.step == report.steps:
            self.last = now
            print(
                f"{report.phase}, epoch {report.epoch}, step {report.step}/{report.steps}: loss {loss}, "
                f"{speed}, {memory}, {each * (report.steps - report.step):.0f} s left",
                flush=True,
            )
