"""The progress bar of training."""

import sys
import time
from typing import Any

from tqdm.auto import tqdm

from frcnn.training.callbacks import Callback
from frcnn.training.reports import StepReport
from frcnn.training.state import TrainingState


def is_interactive() -> bool:
    """Whether someone watches: standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class Speed:
    """Running means of the losses, and the time per step since training was started or resumed."""

    def __init__(self) -> None:
        self._start = 0.0
        self.steps_before = 0
        """Steps done before this start."""
        self.losses: dict[str, float] = {}
        self.seconds_per_step = 0.0

    def update(self, report: StepReport) -> None:
        now = time.monotonic()
        if not self._start:
            self._start, self.steps_before = now - report.seconds, report.step - 1
        old = self.losses if self.losses.keys() >= report.losses.keys() else report.losses
        self.losses = {name: 0.95 * old[name] + 0.05 * value for name, value in report.losses.items()}
        self.seconds_per_step = (now - self._start) / (report.step - self.steps_before)

    def text(self, report: StepReport) -> str:
        """Loss, images per second, and memory."""
        parts = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return (
            f"loss {sum(self.losses.values()):.3f} ({parts}), {report.images / self.seconds_per_step:.2f} images/s, "
            f"{report.memory / 1e9:.1f} GB"
        )


class ProgressBar(Callback):
    """A bar with losses, speed, memory and remaining time. It is shown in a terminal and in a notebook only."""

    def __init__(self) -> None:
        self.speed = Speed()
        self.bar: tqdm[Any] | None = None

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self.speed.update(report)
        if not is_interactive():
            return
        if self.bar is None:
            bar_format = "{desc} {bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(
                total=report.steps, initial=self.speed.steps_before, bar_format=bar_format, dynamic_ncols=True
            )
        self.bar.set_description(f"{report.phase}, epoch {report.epoch}", refresh=False)
        self.bar.set_postfix_str(self.speed.text(report), refresh=False)
        self.bar.update()

    def on_end(self, state: TrainingState) -> None:
        self._close()

    def on_test(self, images: int, total: int) -> None:
        if not is_interactive():
            return
        if self.bar is None:
            self.bar = tqdm(total=total, desc="evaluating", unit="image", leave=False)
        self.bar.update(images - self.bar.n)
        if images == total:
            self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
