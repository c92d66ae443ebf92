"""How long a training takes, from a few steps that are thrown away."""

import copy
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from frcnn import distributed
from frcnn.config import TrainSettings
from frcnn.data.records import Records
from frcnn.data.tiles import size_of
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.resizing import input_size
from frcnn.training.callbacks import Callback
from frcnn.training.engine import fit
from frcnn.training.reports import StepReport
from frcnn.training.schedule import images_per_step
from frcnn.training.schemes import end_to_end, phases_of
from frcnn.training.state import TrainingState

_WARM_UP, _MEASURED = 2, 8  # steps of each phase


def estimate_seconds(
    model: FasterRCNN, settings: TrainSettings, records: Records, precision: torch.dtype, *, workers: int = 1
) -> float:
    """How long training will take on this machine, seconds. The model does not change.

    A copy of it is trained for a few steps of each phase, on small, medium and large images. Validation and evaluation
    are not part of the estimate. All processes must call it.

    Args:
        records: the training images.
        precision: of the layers.
    """
    # Several processes measure steps of end-to-end training: stored proposals need a folder that all of them see.
    phases = phases_of(settings) if distributed.world_size() == 1 else end_to_end(settings)
    size = images_per_step(settings)
    some = records.take(_of_all_sizes(records, model, (_WARM_UP + _MEASURED) * size))
    quick = settings.model_copy(update={"validate_every": None})
    state = TrainingState(
        copy.deepcopy(model), quick, [phase._replace(epochs=1) for phase in phases], _WARM_UP + _MEASURED, precision
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(state, some, run_dir=Path(folder), callbacks=[clock], workers=workers)
    steps = -(-len(records) // size)
    measured = [clock.seconds_per_step(phase.name) if distributed.is_main_process() else 0.0 for phase in phases]
    per_epoch = measured if len(measured) > 1 else measured * len(phases_of(settings))
    epochs = [phase.epochs for phase in phases_of(settings)]
    seconds = steps * sum(count * each for count, each in zip(epochs, per_epoch, strict=True))
    return distributed.broadcast_object(seconds)


class _Clock(Callback):
    """When each step of a phase ended."""

    def __init__(self) -> None:
        self.ends: dict[str, list[float]] = defaultdict(list)

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self.ends[report.phase].append(time.perf_counter())

    def seconds_per_step(self, phase: str) -> float:
        ends = self.ends[phase][_WARM_UP - 1 :]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def _of_all_sizes(records: Records, model: FasterRCNN, count: int) -> Sequence[int]:
    """The indices of so many images, taken evenly from all in order of their size at the input; one may be taken
    several times."""
    resizing = model.settings.detector.resizing
    sizes = [input_size(size_of(record), resizing) for record in records]
    order = sorted(range(len(sizes)), key=lambda index: sizes[index][0] * sizes[index][1])
    return [order[(2 * number + 1) * len(order) // (2 * count)] for number in range(count)]
