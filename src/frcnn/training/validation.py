"""Validation during training: AP and losses on images that are not trained on."""

from collections.abc import Sequence

import torch

from frcnn import distributed
from frcnn.config import TrainSettings
from frcnn.data.loader import batch_to, sharded_batches
from frcnn.data.records import Record
from frcnn.data.tiles import in_tiles
from frcnn.evaluation.evaluate import evaluate
from frcnn.fast.optimize import optimize
from frcnn.inference.runtimes import TorchRuntime
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.seeds import generator_of
from frcnn.training.reports import ValidationReport
from frcnn.training.step import LOSSES, TrainingStep


def validate(
    model: FasterRCNN,
    records: Sequence[Record],
    settings: TrainSettings,
    *,
    epoch: int,
    step: int,
    workers: int = 1,
) -> ValidationReport:
    """Measure AP and losses. The model is left in evaluation mode; all processes must call it.

    Args:
        settings: of the training.
        epoch, step: done so far, for the report.
        workers: threads that read images; 0: none.
    """
    model.eval()
    metrics = evaluate(TorchRuntime(model), records, split="val", workers=workers)
    losses = mean_losses(model, records, settings, workers=workers)
    return ValidationReport(epoch, step, metrics.map50, metrics.map, sum(losses.values()), losses, metrics.recall)


@torch.no_grad()
def mean_losses(
    model: FasterRCNN, records: Sequence[Record], settings: TrainSettings, *, workers: int = 1
) -> dict[str, float]:
    """The four losses of the model, means over the images, without dropout."""
    device, image = next(model.parameters()).device, model.settings.detector.resizing
    step = TrainingStep(optimize(model), settings)
    sums = torch.zeros(len(LOSSES), device=device)
    records = in_tiles(records, image)
    batches = sharded_batches(records, model.classes, image, batch_size=settings.batch_size, workers=workers)
    for own, batch in batches:
        losses = step(batch_to(batch, device), [generator_of(settings.seed, index) for index in own])
        sums += torch.stack([losses[name] for name in LOSSES]) * len(own)
    return dict(zip(LOSSES, (distributed.all_reduce(sums) / len(records)).tolist(), strict=True))
