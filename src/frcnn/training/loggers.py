"""Loggers: metrics.jsonl, TensorBoard, and curves.png."""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from frcnn.evaluation.figures import new_figure
from frcnn.files import atomic_write, write_all
from frcnn.json_text import load_json
from frcnn.run_files import CURVES_FILE, METRICS_FILE, TENSORBOARD_FOLDER
from frcnn.training.callbacks import Callback
from frcnn.training.reports import ProposalReport, StartReport, StepReport, ValidationReport
from frcnn.training.state import TrainingState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricsLogger(Callback):
    """Appends every report to metrics.jsonl, as a line of JSON. "event" is "step", "validation" or "proposals"."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_FILE
        self._file: BinaryIO | None = None

    def on_start(self, report: StartReport, state: TrainingState) -> None:
        self._file = self._path.open("ab", buffering=0)

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self._write({"event": "step", **report._asdict()})

    def on_validation(self, report: ValidationReport, state: TrainingState) -> None:
        self._write({"event": "validation", **report._asdict()})

    def on_proposals(self, report: ProposalReport, state: TrainingState) -> None:
        self._write({"event": "proposals", **report._asdict()})

    def on_end(self, state: TrainingState) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        write_all(self._file, json.dumps(_without_nan(line)).encode() + b"\n")


class TensorBoardLogger(Callback):
    """Writes every report for TensorBoard, into the folder tensorboard/ of the run directory.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        self._make_writer = _summary_writer()
        self._folder = run_dir / TENSORBOARD_FOLDER
        self._writer: SummaryWriter | None = None

    def on_start(self, report: StartReport, state: TrainingState) -> None:
        _remove_host_names(self._folder)
        self._writer = self._make_writer(str(self._folder), purge_step=state.step + 1)

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        rates = {"learning_rate": report.lr, "images_per_second": report.images / report.seconds}
        memory = {"memory_gb": report.memory / 1e9}
        self._add("train", {"loss": report.loss, **rates, **memory, **report.losses}, report.step)

    def on_validation(self, report: ValidationReport, state: TrainingState) -> None:
        values = {"map50": report.map50, "map": report.map, "loss": report.loss, **report.losses}
        self._add("validation", values, report.step)

    def on_proposals(self, report: ProposalReport, state: TrainingState) -> None:
        self._add("proposals", {f"recall_at_{count}": value for count, value in report.recall.items()}, report.step)

    def on_end(self, state: TrainingState) -> None:
        if self._writer is not None:
            self._writer.close()
        _remove_host_names(self._folder)

    def _add(self, group: str, values: Mapping[str, float], step: int) -> None:
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)


def check_logger(name: str) -> None:
    """Check that a logger's package is installed.

    Raises:
        ValueError: it is not; says what to install.
    """
    if name == "tensorboard":
        _summary_writer()


_WITHOUT_CURVES = "delete the file to continue without its curves"


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl.

    Raises:
        ValueError: the file is damaged.
    """
    file = run_dir / METRICS_FILE
    try:
        lines = [load_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); {_WITHOUT_CURVES}") from None
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("seconds", 0), int | float):
            raise ValueError(
                f"{file}: damaged, line {number} must be a JSON object whose `seconds` is a number; {_WITHOUT_CURVES}"
            )
    return lines


def draw_curves(run_dir: Path) -> None:
    """Plot losses, learning rate and validation AP to curves.png."""
    lines = read_metrics(run_dir)
    steps = [line for line in lines if line["event"] == "step"]
    validations = [line for line in lines if line["event"] == "validation"]
    figure = new_figure(figsize=(9, 8))
    losses, rate, *rest = figure.subplots(3 if validations else 2, 1, sharex=True)
    names = list(dict.fromkeys(name for step in steps for name in step["losses"]))
    for name in names:
        own = [step for step in steps if name in step["losses"]]
        losses.plot([s["step"] for s in own], _running_mean([s["losses"][name] for s in own]), label=name)
    losses.plot(
        [s["step"] for s in steps], _running_mean([s["loss"] for s in steps]), color="black", linewidth=2, label="loss"
    )
    if validations:
        losses.plot([v["step"] for v in validations], [v["loss"] for v in validations], "k.--", label="validation loss")
    losses.set(ylabel="loss, running mean", ylim=(0, None))
    losses.legend(ncols=2)
    rate.plot([s["step"] for s in steps], [s["lr"] for s in steps], color="black")
    rate.set(ylabel="learning rate", ylim=(0, None))
    for axes in rest:
        for name, label in (("map50", "mean AP"), ("map", "COCO AP")):
            axes.plot([v["step"] for v in validations], [v[name] for v in validations], ".-", label=label)
        axes.set(ylabel="validation images", ylim=(0, 1))
        axes.legend()
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        for before, after in itertools.pairwise(steps):
            if before["phase"] != after["phase"]:
                axes.axvline(before["step"] + 0.5, color="gray", linestyle=":")
    phases = list(dict.fromkeys(step["phase"] for step in steps))
    figure.suptitle(", ".join(phases) if len(phases) > 1 else run_dir.resolve().name)
    figure.axes[-1].set_xlabel("step")
    with atomic_write(run_dir / CURVES_FILE) as partial:
        figure.savefig(partial, dpi=110)


def _running_mean(values: list[float]) -> list[float]:
    """Exponential mean over about 1/20 of all values, since losses of single steps vary too much to be read."""
    means, weight = [], min(1.0, 20 / max(len(values), 1))
    mean = values[0] if values else 0.0
    for value in values:
        mean += weight * (value - mean)
        means.append(mean)
    return means


def _without_nan(value: Any) -> Any:
    """With None for numbers that JSON does not have: NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _remove_host_names(folder: Path) -> None:
    """Rename event files: TensorBoard puts the name of this machine into theirs, and run directories are passed on.

    From events.out.tfevents.TIME.HOST.PROCESS.NUMBER to events.out.tfevents.TIME.PROCESS.NUMBER.
    """
    for file in folder.glob("events.out.tfevents.*"):
        time, *host, process, number = file.name.removeprefix("events.out.tfevents.").split(".")
        if host:
            file.rename(file.with_name(f"events.out.tfevents.{time}.{process}.{number}"))


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("train.logger tensorboard needs a package: pip install tensorboard") from None
    return SummaryWriter
