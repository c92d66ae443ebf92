"""Measuring while training: on images that are not trained on, with the weights that would be kept."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from frcnn import processes
from frcnn.data.loader import batch_to, own_batches
from frcnn.evaluation.measure import measure
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.sampling import generator_of
from frcnn.training.step import LOSSES, TrainingStep
from frcnn.types import Record


class ValidationReport(NamedTuple):
    """How good the detector is after an epoch."""

    epoch: int
    """Of all phases, from 1."""
    step: int
    mean_ap: float
    coco_ap: float
    loss: float
    losses: dict[str, float]
    """By the names of training, means over the images; the samples are the same every time."""
    recall: dict[int, float]


def validate(detector: FasterRCNN, records: Sequence[Record], *, epoch: int, step: int) -> ValidationReport:
    """Measure the detector; several processes share the images out. It is left in evaluation mode."""
    detector.eval()
    evaluation = measure(detector, records, split="val")
    losses = mean_losses(detector, records)
    return ValidationReport(
        epoch, step, evaluation.mean_ap, evaluation.coco_ap, sum(losses.values()), losses, evaluation.recall
    )


@torch.no_grad()
def mean_losses(detector: FasterRCNN, records: Sequence[Record]) -> dict[str, float]:
    """The four losses of a detector as a whole, means over the images, without dropout."""
    config, device = detector.config, next(detector.parameters()).device
    step, seed = TrainingStep(detector), config.train.seed
    sums = torch.zeros(len(LOSSES), device=device)
    for own, batch in own_batches(records, detector.classes, config):
        losses = step(batch_to(batch, device), [generator_of(seed, index) for index in own])
        sums += torch.stack([losses[name] for name in LOSSES]) * len(own)
    return dict(zip(LOSSES, (processes.total(sums) / len(records)).tolist(), strict=True))
