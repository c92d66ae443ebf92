"""The training loop: phases, epochs, steps."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from frcnn import processes
from frcnn.data.ahead import read_ahead
from frcnn.data.loader import Share, batch_to, epoch_order, load_batch, shares_of_steps
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.sampling import generator_of
from frcnn.training.optimizer import parameters_of, set_rate
from frcnn.training.proposals import keep_proposals, open_proposals, without_fillers
from frcnn.training.replay import not_finite, seed_dropout
from frcnn.training.schedule import images_per_step, learning_rate, warmup_steps
from frcnn.training.state import TrainingState
from frcnn.training.step import MicroBatch, TrainingStep
from frcnn.types import Batch, Record


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
    """Of all processes together."""
    memory: int
    """Bytes: of the graphics card at most so far, or of this process now."""


class ProposalReport(NamedTuple):
    """What the RPN found in the training images, when its proposals were kept."""

    phase: str
    """That takes them."""
    step: int
    """After which they were made."""
    recall: dict[int, float]
    """Share of the objects that the best n proposals overlap by an IoU of 0.5 or more, for some n."""


def fit(
    state: TrainingState, records: Sequence[Record], *, folder: Path, device: torch.device, precision: torch.dtype
) -> Iterator[StepReport | ProposalReport]:
    """Train in place from where the state stands; after every report, the state can be saved.

    Args:
        records: training images, checked.
        folder: for proposals that are kept.
        device: where to train; the detector stays there.
        precision: of the layers; box arithmetic and losses are float32 in any case.

    Raises:
        NonFiniteLossError: names phase, step and images.
    """
    detector = state.detector.to(device)
    while state.step < state.steps:
        phase = state.phases[state.position.phase]
        kept = folder / f"proposals-{phase.name.replace(' ', '-')}.npy"
        proposals = None
        if state.position.begins_phase:
            if processes.is_first():  # those of the phase before have served
                for old in folder.glob("proposals-*.npy"):
                    old.unlink()
            if phase.keeps_proposals:
                yield ProposalReport(phase.name, state.step, keep_proposals(detector, records, kept))
            state.restart()
        state.begin(device, precision)
        proposals = open_proposals(kept) if phase.keeps_proposals else None
        training = TrainingStep(detector, phase.train)
        parallel: nn.Module = training
        if processes.count() > 1:
            parallel = DistributedDataParallel(training, broadcast_buffers=False)  # see `_share_statistics`
        for _ in range(state.position.epoch, phase.epochs):
            training.set_modes()
            for batches in _epoch(state, records, proposals, device):
                start, (_, epoch, step, _) = time.perf_counter(), state.position
                size = images_per_step(detector.config.train)
                rate = min(size, len(records)) * learning_rate(
                    phase.lr,
                    step=epoch * state.steps_per_epoch + step,
                    steps_per_epoch=state.steps_per_epoch,
                    epochs=phase.epochs,
                    warmup_steps=warmup_steps(detector.config.train),
                    decay=detector.config.train.lr_decay,
                )
                losses = _set_gradients(parallel, state, batches, precision)
                _set_weights(state, rate)
                _share_statistics(detector)
                if state.average is not None:
                    state.average.update_parameters(detector)
                state.step += 1
                if state.position.begins_phase:
                    state.end()
                yield StepReport(
                    phase.name,
                    epoch + 1,
                    state.step,
                    state.steps,
                    rate,
                    sum(losses.values()),
                    losses,
                    time.perf_counter() - start,
                    min(size, len(records) - step * size),
                    _memory(device),
                )
    detector.eval()


def _epoch(
    state: TrainingState, records: Sequence[Record], proposals: np.ndarray | None, device: torch.device
) -> Iterator[list[MicroBatch]]:
    """This process's batches of each step that is left in the epoch."""
    detector, settings = state.detector, state.detector.config.train
    _, _, done, epoch = state.position
    images = epoch_order(len(records), seed=settings.seed, epoch=epoch)[done * images_per_step(settings) :]
    shares_of = partial(
        shares_of_steps,
        images,
        images_per_step=images_per_step(settings),
        batch_size=settings.batch_size,
        rank=processes.rank(),
        count=processes.count(),
    )

    def load(share: Share) -> Batch:
        return load_batch(
            [records[index] for index in share.indices],
            detector.classes,
            detector.config.detector.image,
            flip=settings.flip and epoch % 2 == 1,
            proposals=None if proposals is None else [without_fillers(proposals[index]) for index in share.indices],
        )

    batches = read_ahead(
        load, (share for shares in shares_of() for share in shares), workers=detector.config.data.workers
    )
    for shares in shares_of():
        yield [
            MicroBatch(
                batch_to(next(batches), device),
                share.weight,
                [(settings.seed, epoch, index) for index in share.indices],
            )
            for share in shares
        ]


def _set_gradients(
    training: nn.Module, state: TrainingState, micro_batches: Sequence[MicroBatch], precision: torch.dtype
) -> dict[str, float]:
    """Of the mean loss over the step's images, of all processes; returns its parts."""
    state.optimizer.zero_grad(set_to_none=True)
    parts: list[Tensor] = []
    names: list[str] = []
    for index, (batch, weight, seeds) in enumerate(micro_batches, start=1):
        last = index == len(micro_batches)
        wait = training.no_sync() if isinstance(training, DistributedDataParallel) and not last else nullcontext()
        with wait:
            with torch.autocast(batch.images.device.type, precision, enabled=precision != torch.float32):
                seed_dropout(seeds)
                losses = training(batch, [generator_of(*seed) for seed in seeds])
            names = list(losses)
            weighted = torch.stack(list(losses.values())) * weight
            # DistributedDataParallel takes the mean over the processes; the weights are made for the sum.
            state.scaler.scale(weighted.sum() * processes.count()).backward()
        parts.append(weighted.detach())
    found = dict(zip(names, processes.total(torch.stack(parts).sum(dim=0)).tolist(), strict=True))
    if not math.isfinite(sum(found.values())):
        failed = [batch for batch, part in zip(micro_batches, parts, strict=True) if not part.isfinite().all()]
        phase = state.phases[state.position.phase]
        raise not_finite(
            state.detector, phase.train, failed, found, precision, f"phase '{phase.name}', step {state.step + 1}"
        )
    return found


def _set_weights(state: TrainingState, rate: float) -> None:
    """One step down the gradients."""
    clip_norm = state.detector.config.train.clip_norm
    set_rate(state.optimizer, rate)
    state.scaler.unscale_(state.optimizer)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters_of(state.optimizer), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()


def _share_statistics(detector: FasterRCNN) -> None:
    """Batch norm that learns: every process takes the first one's running mean and variance after each step, so that
    all measure, and keep, the same detector."""
    learning = [module for module in detector.modules() if isinstance(module, _BatchNorm) and module.training]
    processes.spread([b for module in learning for b in module.buffers() if b.is_floating_point()])


def _memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
