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
from frcnn.data.image_cache import ImageCache
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
    model: FasterRCNN,
    settings: TrainSettings,
    records: Records,
    precision: torch.dtype,
    *,
    workers: int = 1,
    cache_limit: int = 0,
) -> float:
    """How long training will take on this machine, seconds. The model does not change.

    A copy of it is trained for a few steps of each phase, on small, medium and large images. If training caches images,
    this is done twice: the first epoch decodes them, the others read them from the cache. Validation and evaluation are
    not part of the estimate. All processes must call it.

    Args:
        records: the training images.
        precision: of the layers.
        workers: threads that read images; 0: none.
        cache_limit: bytes that cached images may take; 0: there is no cache.
    """
    # Several processes measure steps of end-to-end training: stored proposals need a folder that all of them see.
    phases = phases_of(settings) if distributed.world_size() == 1 else end_to_end(settings)
    size = images_per_step(settings)
    some = records.take(_of_all_sizes(records, model, (_WARM_UP + _MEASURED) * size))
    quick = settings.model_copy(update={"validate_every": None})
    epochs = 2 if cache_limit else 1
    short = [phase._replace(epochs=epochs) for phase in phases]
    state = TrainingState(copy.deepcopy(model), quick, short, _WARM_UP + _MEASURED, precision)
    cache = ImageCache(cache_limit * len(some) // len(records))  # as large a part of the images fits
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(state, some, run_dir=Path(folder), callbacks=[clock], workers=workers, read=cache.read)
    seconds = 0.0
    if distributed.is_main_process():
        for index, phase in enumerate(phases_of(settings)):
            name = phases[min(index, len(phases) - 1)].name
            first, later = (clock.seconds_per_step(name, epoch) for epoch in (1, epochs))
            seconds += first + (phase.epochs - 1) * later
    return distributed.broadcast_object(seconds * -(-len(records) // size))


class _Clock(Callback):
    """When each step of a phase and epoch ended."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], list[float]] = defaultdict(list)

    def on_step(self, report: StepReport, state: TrainingState) -> None:
        self.ends[report.phase, report.epoch].append(time.perf_counter())

    def seconds_per_step(self, phase: str, epoch: int) -> float:
        ends = self.ends[phase, epoch][_WARM_UP - 1 :]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def _of_all_sizes(records: Records, model: FasterRCNN, count: int) -> Sequence[int]:
    """The indices of `count` images, taken evenly from all in order of their size at the input; one may be taken
    several times."""
    resizing = model.settings.detector.resizing
    sizes = [input_size(size_of(record), resizing) for record in records]
    order = sorted(range(len(sizes)), key=lambda index: sizes[index][0] * sizes[index][1])
    return [order[(2 * number + 1) * len(order) // (2 * count)] for number in range(count)]
