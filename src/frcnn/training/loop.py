"""The training loop: phases, epochs, steps."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from frcnn.config import TrainSettings
from frcnn.data.loader import batched, epoch_order, load_batch, read_ahead
from frcnn.nn.detector import FasterRCNN
from frcnn.training.phases import Part, Phase
from frcnn.training.schedule import learning_rate
from frcnn.training.step import Losses, TrainingStep
from frcnn.types import Batch, Record, Target


class StepReport(NamedTuple):
    """What one step did."""

    phase: str
    epoch: int
    """From 1."""
    step: int
    """From 1, over all phases."""
    steps: int
    """Of all phases."""
    lr: float
    loss: float
    losses: dict[str, float]
    seconds: float
    images: int


def fit(
    detector: FasterRCNN,
    records: Sequence[Record],
    phases: Sequence[Phase],
    *,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[StepReport]:
    """Train the detector in place; every step is a report.

    Args:
        records: training images, checked.
        device: where to train; the detector stays there.
        precision: of the layers; box arithmetic and losses are float32 in any case.

    Raises:
        FloatingPointError: a loss is not finite; names phase, step and images.
    """
    settings, image_settings = detector.config.train, detector.config.detector.image
    steps_per_epoch = math.ceil(len(records) / settings.batch_size)
    steps = sum(phase.epochs for phase in phases) * steps_per_epoch
    step_numbers = count(1)
    epoch_numbers = count()
    detector.to(device)
    training = TrainingStep(detector).train()

    for phase in phases:
        optimizer = make_optimizer(detector, phase, settings)
        for part in Part:  # what is not trained also keeps its batch norm's statistics
            getattr(detector, part.value).train(part in phase.train)
        detector.freeze_batch_norm()
        for epoch in range(phase.epochs):
            number = next(epoch_numbers)
            flip = settings.flip and number % 2 == 1
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
            order = [records[i] for i in epoch_order(len(records), seed=settings.seed, epoch=number)]
            batches = read_ahead(
                partial(load_batch, classes=detector.classes, settings=image_settings, flip=flip),
                batched(order, settings.batch_size),
                workers=detector.config.data.workers,
            )
            for index, batch in enumerate(batches):
                start = time.perf_counter()
                step = next(step_numbers)
                rate = learning_rate(
                    phase.lr,
                    step=epoch * steps_per_epoch + index,
                    steps_per_epoch=steps_per_epoch,
                    epochs=phase.epochs,
                    warmup_steps=settings.warmup_steps,
                    decay=settings.lr_decay,
                )
                _set_rate(optimizer, rate)
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    losses = training(_to(batch, device), generator)
                loss = _finite_sum(losses, phase, step, batch)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(_trained(optimizer), settings.clip_norm)
                optimizer.step()
                yield StepReport(
                    phase.name,
                    epoch + 1,
                    step,
                    steps,
                    rate,
                    loss.item(),
                    {name: value.item() for name, value in losses._asdict().items()},
                    time.perf_counter() - start,
                    len(batch.images),
                )
    detector.eval()


def make_optimizer(detector: FasterRCNN, phase: Phase, settings: TrainSettings) -> Optimizer:
    """SGD over the parts that the phase trains; everything else stops requiring gradients.

    Biases learn at `bias_lr_mult` times the rate, as in py-faster-rcnn and CNTK; layers without pretrained
    weights at `new_layers_lr_mult` times.
    """
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    names = [part.value for part in phase.train]
    for name, parameter in detector.named_parameters():
        trained = name.partition(".")[0] in names and name not in detector.fixed
        parameter.requires_grad_(trained)
        if trained:
            bias = settings.bias_lr_mult if name.endswith("bias") else 1.0
            new = settings.new_layers_lr_mult if name in detector.fresh else 1.0
            groups[bias * new].append(parameter)
    rates = [{"params": parameters, "lr_mult": multiplier} for multiplier, parameters in groups.items()]
    return SGD(rates, lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay, fused=True)


def _set_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_mult"]


def _trained(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _finite_sum(losses: Losses, phase: Phase, step: int, batch: Batch) -> Tensor:
    loss = torch.stack(list(losses)).sum()
    if not torch.isfinite(loss):
        parts = ", ".join(f"{name}={value.item():g}" for name, value in losses._asdict().items())
        raise FloatingPointError(
            f"loss is {loss.item():g} at phase '{phase.name}', step {step} ({parts}), "
            f"image {', '.join(batch.names)}; a lower train.lr or a train.clip_norm may help"
        )
    return loss


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        batch.images.to(device),
        batch.image_sizes.to(device),
        batch.original_sizes.to(device),
        [Target(*(value.to(device) for value in target)) for target in batch.targets],
        batch.names,
    )
