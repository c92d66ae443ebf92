"""The training loop: phases, epochs, steps."""

import inspect
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from frcnn import distributed
from frcnn.config import TrainSettings
from frcnn.data.augment import Augmentation, random_augmentation
from frcnn.data.image_cache import ImageReader
from frcnn.data.images import read_to_resize
from frcnn.data.loader import MicroBatch, MicroBatchPlan, batch_to, epoch_order, load_batch, plan_micro_batches
from frcnn.data.prefetch import prefetch
from frcnn.data.records import Record
from frcnn.fast.optimize import optimize
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import save_model
from frcnn.run_files import BEST_FILE
from frcnn.seeds import generator_of, seed_dropout, seed_of
from frcnn.training.callbacks import Callback
from frcnn.training.checkpoint import Checkpoint
from frcnn.training.debug_step import not_finite
from frcnn.training.optimizer import parameters_of, set_rate
from frcnn.training.reports import ProposalReport, StepReport
from frcnn.training.schedule import learning_rate, warmup_steps
from frcnn.training.state import TrainingState
from frcnn.training.step import TrainingStep
from frcnn.training.stored_proposals import (
    open_proposals,
    proposals_file,
    remove_proposals,
    store_proposals,
    without_fillers,
)
from frcnn.training.validation import validate
from frcnn.types import Batch


def fit(
    state: TrainingState,
    train: Sequence[Record],
    val: Sequence[Record] = (),
    *,
    run_dir: Path,
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
    workers: int = 1,
    read: ImageReader = read_to_resize,
) -> None:
    """Train the model in place, from the state's step to the last one or until `state.should_stop` is set.

    Args:
        train: training images, checked.
        val: validation images; needed if `train.validate_every` is set.
        run_dir: where stored proposals and the best model go.
        callbacks: in the main process; none in the others.
        checkpoint: where the state is saved; None: nowhere.
        workers: threads that read images; 0: none.
        read: how a training image is read.

    Raises:
        NonFiniteLossError: a loss is infinite or NaN; names phase, step and images.
    """
    model = state.model
    while state.step < state.steps and not state.should_stop:
        phase, stored = state.phase, proposals_file(run_dir, state.phase.name)
        if state.position.begins_phase:
            proposals = None  # Windows does not remove a file that is mapped
            remove_proposals(run_dir)
            if phase.uses_stored_proposals:
                recall = store_proposals(model, train, stored, batch_size=state.settings.batch_size, workers=workers)
                for callback in callbacks:
                    callback.on_proposals(ProposalReport(phase.name, state.step, recall), state)
            state.begin_phase()
        proposals = open_proposals(stored) if phase.uses_stored_proposals else None
        fast = optimize(model)  # shares the weights of `model`
        training_step = TrainingStep(fast, state.settings, phase.train)
        distributed_step = _distributed(training_step)

        for epoch in range(state.position.epoch, phase.epochs):
            training_step.set_modes()
            for micro_batches in _load_epoch(state, train, proposals, workers, read):
                start = time.perf_counter()
                lr, images = _learning_rate(state, len(train)), _images_in_step(state, len(train))
                losses = _compute_gradients(distributed_step, state, micro_batches)
                _update_weights(state, lr)
                _broadcast_batch_norm_statistics(fast)
                state.advance()

                seconds, memory = time.perf_counter() - start, _memory(state.device)
                report = StepReport(
                    phase=phase.name,
                    epoch=epoch + 1,
                    step=state.step,
                    steps=state.steps,
                    lr=lr,
                    loss=sum(losses.values()),
                    losses=losses,
                    seconds=seconds,
                    images=images,
                    memory=memory,
                )
                for callback in callbacks:
                    callback.on_step(report, state)

                validated = _is_validation_due(state)
                if validated:
                    epochs = state.position.total_epoch
                    validation = validate(
                        state.outcome, val, state.settings, epoch=epochs, step=state.step, workers=workers
                    )
                    if state.update_best(validation) and distributed.is_main_process():
                        save_model(state.outcome, run_dir / BEST_FILE)
                    for callback in callbacks:
                        callback.on_validation(validation, state)

                state.should_stop = distributed.any_process(state.should_stop, state.device)
                if state.should_stop:
                    break
                if checkpoint is not None and state.step < state.steps:
                    checkpoint.update(now=validated or state.position.begins_phase)
            if state.should_stop:
                break
    model.eval()


def _load_epoch(
    state: TrainingState, records: Sequence[Record], proposals: np.ndarray | None, workers: int, read: ImageReader
) -> Iterator[list[MicroBatch]]:
    """This process's micro-batches for each remaining step of the epoch."""
    model, settings = state.model, state.settings
    steps_done, epoch = state.position.step, state.position.total_epoch
    order = epoch_order(len(records), seed=settings.seed, epoch=epoch)[steps_done * state.images_per_step :]
    plans = plan_micro_batches(
        order,
        images_per_step=state.images_per_step,
        batch_size=settings.batch_size,
        rank=distributed.rank(),
        count=distributed.world_size(),
    )
    steps, steps_to_load = tee(plans)

    def load(plan: MicroBatchPlan) -> Batch:
        return load_batch(
            [records[index] for index in plan.indices],
            model.classes,
            model.settings.detector.resizing,
            augmentations=[_augmentation(settings, epoch, index) for index in plan.indices],
            proposals=None if proposals is None else [without_fillers(proposals[index]) for index in plan.indices],
            read=read,
        )

    batches = prefetch(load, chain.from_iterable(steps_to_load), workers=workers)
    for step in steps:
        yield [
            MicroBatch(
                batch_to(next(batches), state.device),
                plan.weight,
                [(settings.seed, epoch, index) for index in plan.indices],
            )
            for plan in step
        ]


def _augmentation(settings: TrainSettings, epoch: int, index: int) -> Augmentation:
    """What is changed in an image in an epoch; it depends on the seed alone."""
    return random_augmentation(
        np.random.default_rng(seed_of(settings.seed, epoch, index, 1)),
        flip=settings.flip and epoch % 2 == 1,
        scale_jitter=settings.scale_jitter,
        color_jitter=settings.color_jitter,
    )


def _compute_gradients(model: nn.Module, state: TrainingState, micro_batches: Sequence[MicroBatch]) -> dict[str, float]:
    """Compute the gradients of the mean loss over the step's images, all processes together.

    Returns:
        Loss name -> mean over the step's images.
    """
    state.optimizer.zero_grad(set_to_none=True)
    weighted_losses: list[Tensor] = []
    names: list[str] = []
    for index, (batch, weight, seeds) in enumerate(micro_batches, start=1):
        last = index == len(micro_batches)
        with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
            with torch.autocast(state.device.type, state.precision, enabled=state.precision != torch.float32):
                seed_dropout(seeds)
                losses = model(batch, [generator_of(*seed) for seed in seeds])
            names = list(losses)
            weighted = torch.stack(list(losses.values())) * weight
            # `weight` is a fraction of the whole step: undo DistributedDataParallel's average over the processes.
            state.scaler.scale(weighted.sum() * distributed.world_size()).backward()
        weighted_losses.append(weighted.detach())
    sums = distributed.all_reduce(torch.stack(weighted_losses).sum(dim=0)).tolist()
    means = dict(zip(names, sums, strict=True))
    if not math.isfinite(sum(means.values())):
        failed = [
            batch for batch, losses in zip(micro_batches, weighted_losses, strict=True) if not losses.isfinite().all()
        ]
        raise not_finite(state, failed, means)
    return means


def _update_weights(state: TrainingState, lr: float) -> None:
    """One step of the optimizer."""
    clip_norm = state.settings.clip_norm
    set_rate(state.optimizer, lr)
    state.scaler.unscale_(state.optimizer)
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(parameters_of(state.optimizer), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()


def _learning_rate(state: TrainingState, images: int) -> float:
    """The learning rate of the next step: the schedule's for one image, times the images per step (at most all)."""
    settings, position = state.settings, state.position
    return min(state.images_per_step, images) * learning_rate(
        state.phase.lr,
        step=position.epoch * state.steps_per_epoch + position.step,
        steps_per_epoch=state.steps_per_epoch,
        epochs=state.phase.epochs,
        warmup_steps=warmup_steps(settings),
        decay=settings.lr_decay,
    )


def _images_in_step(state: TrainingState, images: int) -> int:
    """The number of images of the next step; the last step of an epoch may have fewer."""
    return min(state.images_per_step, images - state.position.step * state.images_per_step)


def _is_validation_due(state: TrainingState) -> bool:
    """After every `train.validate_every` epochs of the last phase, and at the end. Before the last phase, the RPN
    and the RoI head belong to different backbones."""
    every, position = state.settings.validate_every, state.position
    if every is None or position.step > 0:
        return False
    in_last_phase = position.phase == len(state.phases) - 1
    return state.step == state.steps or (in_last_phase and position.epoch > 0 and position.epoch % every == 0)


def _distributed(model: nn.Module) -> nn.Module:
    """The model, with gradients averaged over all processes."""
    if distributed.world_size() == 1:
        return model
    # Newer versions of PyTorch have another name for it, warn of the old one, and still send all buffers at the start.
    is_new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    sync_buffers: Any = {"forward_sync_buffers" if is_new else "broadcast_buffers": False}
    return DistributedDataParallel(model, **sync_buffers)  # see `_broadcast_batch_norm_statistics`


def _broadcast_batch_norm_statistics(model: FasterRCNN) -> None:
    """Give all processes the main process's running mean and variance, so that all validate and store the same
    model."""
    trained = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    distributed.broadcast([b for module in trained for b in module.buffers() if b.is_floating_point()])


def _memory(device: torch.device) -> int:
    """Bytes: the peak on a GPU, the present use on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
