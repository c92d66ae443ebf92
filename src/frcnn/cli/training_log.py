"""What `frcnn train` prints: a summary at the start, progress, and validations."""

import sys
import time
from collections import Counter
from collections.abc import Iterator

import torch
from tqdm.auto import tqdm

from frcnn import distributed
from frcnn.messages import duration, plural
from frcnn.run_files import DATA_REPORT_FILE
from frcnn.training.progress import ProgressBar, is_interactive
from frcnn.training.reports import ProposalReport, StartReport, StepReport, ValidationReport
from frcnn.training.schedule import warmup_steps
from frcnn.training.state import TrainingState

_INTERVAL = 10.0  # seconds between lines, where there is no bar


class TrainingLog(ProgressBar):
    """The progress bar, and lines of text. Where there is no terminal, a line every ten seconds replaces the bar."""

    def __init__(self) -> None:
        super().__init__()
        self._printed = 0.0

    def on_start(self, report: StartReport, state: TrainingState) -> None:
        for line in _summary(report):
            self._print(line)

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        super().on_step(report, state)
        now = time.monotonic()
        if not is_interactive() and (now - self._printed >= _INTERVAL or report.step == report.steps):
            self._printed = now
            left = self.speed.seconds_per_step * (report.steps - report.step)
            self._print(
                f"{report.phase}, epoch {report.epoch}, step {report.step}/{report.steps}: {self.speed.text(report)}, "
                f"{left:.0f} s left"
            )

    def on_proposals(self, report: ProposalReport, state: TrainingState) -> None:
        recall = ", ".join(f"{value:.4f} at {count}" for count, value in report.recall.items())
        self._print(f"proposals for phase '{report.phase}': recall {recall}")

    def on_validation(self, report: ValidationReport, state: TrainingState) -> None:
        self._print(f"epoch {report.epoch}: mean AP {report.map50:.4f}, validation loss {report.loss:.4f}")
        if state.should_stop and state.best is not None:
            self._print(f"early stopping: no better one in the last {plural(state.best.waited, 'validation')}")

    def on_export(self, message: str) -> None:
        self._print(message)

    def _print(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self.bar is None:
            print(line, flush=True)
        else:
            tqdm.write(line, file=sys.stdout)


def _weights(start: StartReport) -> Iterator[str]:
    """Which weights the detector starts from."""
    source, known, new_layers = start.weights
    yield f"base model {start.config.base_model.name}: " + (
        "random weights" if source is None else f"weights from {source}"
    )
    if known is not None:
        new = [name for name in start.dataset.classes if name not in known]
        yield f"classes with trained weights: {', '.join(known) or 'none'}"
        yield f"new classes, newly initialized: {', '.join(new) or 'none'}"
    if new_layers:
        yield f"the weights lack these layers of the RoI head, which are newly initialized: {', '.join(new_layers)}"


def _summary(start: StartReport) -> Iterator[str]:
    """What is trained on what, and how."""
    config, dataset = start.config, start.dataset
    yield from _weights(start)
    yield from dataset.summary().split("\n")
    yield f"classes: {', '.join(dataset.classes)}"
    if dataset.val and config.train.validate_every is None:
        yield "the validation images are not used; to use them, set train.validate_every"
    kinds = Counter((problem.level, problem.kind) for problem in dataset.problems)
    if kinds:
        counts = ", ".join(
            f"{kind}{'' if level == 'warning' else f', {level}'} ({count})" for (level, kind), count in kinds.items()
        )
        yield f"data: {counts}; {DATA_REPORT_FILE} lists each"
    else:
        yield f"`frcnn check {config.data.path}` also finds duplicates and odd boxes"
    if start.plan is not None and start.step == 0:
        yield from str(start.plan).split("\n")
        yield "to change a setting: --set SETTING=VALUE; to use the defaults: --no-plan"
    slow = start.device.type == "cpu" and start.precision == torch.float16
    yield (
        f"training on {start.device.type}, layers in {str(start.precision).removeprefix('torch.')}"
        + ("; most CPUs compute it slowly, so fp32 or bf16 may be several times faster" if slow else "")
    )
    size = min(start.images_per_step, len(dataset.train))
    if size > 1:
        factors = (
            (config.train.batch_size, "in a batch"),
            (config.train.accumulate, "batches"),
            (distributed.world_size(), "processes"),
        )
        product = " x ".join(f"{count} {what}" for count, what in factors if count > 1)
        warmup = warmup_steps(config.train)
        reached = f", reached in {plural(warmup, 'step')}" if warmup else ""
        yield f"{size} images a step ({product}), so the learning rate is {size} times that of one image{reached}"
    if start.graphs:
        yield f"graphs in {', '.join(map(str, start.graphs))}"
    if start.estimated_seconds is not None:
        seconds = duration(start.estimated_seconds)
        yield f"training will take about {seconds}, validations and the evaluation not counted"
    if start.step > 0:
        yield f"{start.run_dir}: resumes after step {start.step} of {start.steps}"
