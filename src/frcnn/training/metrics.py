"""What a training tells while it runs: metrics.jsonl, TensorBoard, and curves.png at its end."""

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.files import whole_file, write_all
from frcnn.training.loop import ProposalReport, StepReport
from frcnn.training.validation import ValidationReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "curves.png"
Report = StepReport | ProposalReport | ValidationReport
_EVENTS: dict[type[Any], str] = {StepReport: "step", ProposalReport: "proposals", ValidationReport: "validation"}


class Metrics:
    """Writes every report as a line of JSON; its "event" says which it is.

    Args:
        folder: the RUN.
        size: bytes of metrics.jsonl to keep: those of the steps that are not taken again.
        logger: "tensorboard" writes there too.
        step: the number of steps done.
    """

    def __init__(self, folder: Path, *, size: int, logger: str, step: int) -> None:
        self._file = (folder / METRICS_FILE).open("a+b", buffering=0)
        self._file.truncate(min(size, self._file.seek(0, os.SEEK_END)))
        self._board = _tensorboard(folder, step) if logger == "tensorboard" else None

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, report: Report) -> None:
        line = {"event": _EVENTS[type(report)], **report._asdict()}
        write_all(self._file, json.dumps(_plain(line)).encode() + b"\n")
        if self._board is not None:
            for name, value in _scalars(report):
                self._board.add_scalar(name, value, report.step)

    def sync(self) -> int:
        """Put what was written on the disk; returns its bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()


def check_logger(name: str) -> None:
    """Raise a ValueError that says what to install, if the logger is not."""
    if name == "tensorboard":
        _summary_writer()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a RUN's metrics.jsonl."""
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]


def draw_curves(folder: Path) -> None:
    """Losses, learning rate, and AP where it was measured, as RUN/curves.png."""
    from matplotlib.figure import Figure  # takes half a second

    lines = read_metrics(folder)
    steps = [line for line in lines if line["event"] == "step"]
    validations = [line for line in lines if line["event"] == "validation"]
    figure = Figure(figsize=(9, 8), layout="constrained")
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
        for name, label in (("mean_ap", "mean AP"), ("coco_ap", "COCO AP")):
            axes.plot([v["step"] for v in validations], [v[name] for v in validations], ".-", label=label)
        axes.set(ylabel="validation images", ylim=(0, 1))
        axes.legend()
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        for before, after in itertools.pairwise(steps):
            if before["phase"] != after["phase"]:
                axes.axvline(before["step"] + 0.5, color="gray", linestyle=":")
    phases = list(dict.fromkeys(step["phase"] for step in steps))
    figure.suptitle(", ".join(phases) if len(phases) > 1 else folder.resolve().name)
    figure.axes[-1].set_xlabel("step")
    with whole_file(folder / CURVES_FILE) as partial:
        figure.savefig(partial, dpi=110)


def _running_mean(values: list[float]) -> list[float]:
    """Single steps jump too much to be read: an exponential mean over some 1/20 of all steps."""
    means, weight = [], min(1.0, 20 / max(len(values), 1))
    mean = values[0]
    for value in values:
        mean += weight * (value - mean)
        means.append(mean)
    return means


def _plain(value: Any) -> Any:
    """NaN is not JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(report: Report) -> Iterator[tuple[str, float]]:
    match report:
        case StepReport():
            yield "train/loss", report.loss
            yield "train/learning_rate", report.lr
            yield "train/images_per_second", report.images / report.seconds
            yield "train/memory_gb", report.memory / 1e9
            yield from ((f"train/{name}", value) for name, value in report.losses.items())
        case ValidationReport():
            yield "validation/mean_ap", report.mean_ap
            yield "validation/coco_ap", report.coco_ap
            yield "validation/loss", report.loss
            yield from ((f"validation/{name}", value) for name, value in report.losses.items())
        case ProposalReport():
            yield from ((f"proposals/recall_at_{count}", value) for count, value in report.recall.items())


def _tensorboard(folder: Path, step: int) -> "SummaryWriter":
    return _summary_writer()(str(folder / "tensorboard"), purge_step=step + 1)


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("train.logger tensorboard needs a package: pip install 'frcnn[tensorboard]'") from None
    return SummaryWriter
