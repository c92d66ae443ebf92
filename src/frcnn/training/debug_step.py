"""Saves a step whose loss is not finite, and computes it again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frcnn import distributed
from frcnn.config import ModelSettings, TrainSettings
from frcnn.data.loader import MicroBatch, batch_to
from frcnn.fast.optimize import optimize
from frcnn.nn.build import build_model
from frcnn.run_files import FAILED_STEP_FILE
from frcnn.seeds import generator_of, seed_dropout
from frcnn.training.checkpoint import read_checkpoint, write_checkpoint
from frcnn.training.schemes import Part
from frcnn.training.state import TrainingState
from frcnn.training.step import TrainingStep
from frcnn.types import Batch, Target


class NonFiniteLossError(FloatingPointError):
    """A loss is infinite or NaN.

    Attributes:
        step: what `debug_step` needs to compute the losses again: tensors, numbers and names.
    """

    def __init__(self, message: str, step: dict[str, Any]) -> None:
        super().__init__(message)
        self.step = step


def not_finite(state: TrainingState, failed: Sequence[MicroBatch], losses: Mapping[str, float]) -> NonFiniteLossError:
    """The error for the next step. All processes must call it.

    Args:
        failed: this process's micro-batches whose losses are not finite.
        losses: of the step, by name.
    """
    cpu = torch.device("cpu")
    own = [micro._replace(batch=batch_to(micro.batch, cpu)) for micro in failed]
    everywhere = [batch for batches in distributed.gather(own) for batch in batches]
    finite = all(parameter.isfinite().all() for parameter in state.model.parameters())
    why = "" if finite else "; the weights were not finite before this step, since earlier gradients were not"
    images = ", ".join(name for micro in everywhere for name in micro.batch.image_names)
    named = ", ".join(f"{name}={value:g}" for name, value in losses.items())
    return NonFiniteLossError(
        f"loss is {sum(losses.values()):g} at phase '{state.phase.name}', step {state.step + 1} ({named}), image "
        f"{images}; try a lower train.lr, or set train.clip_norm{why}",
        {
            "weights": state.model.state_dict(),
            "settings": state.model.settings.model_dump(mode="json"),
            "train": state.settings.model_dump(mode="json"),
            "classes": list(state.model.classes),
            "parts": [part.value for part in state.phase.train],
            "precision": str(state.precision).removeprefix("torch."),
            "batches": [(_plain(micro.batch), micro.seeds) for micro in everywhere],
        },
    )


def save_failed_step(error: NonFiniteLossError, run_dir: Path) -> FloatingPointError:
    """Save the step in the run directory (main process only).

    Returns:
        The error to raise, which says where the step is.
    """
    file = run_dir / FAILED_STEP_FILE
    note = f"{file} holds this step for frcnn.training.debug_step"
    if distributed.is_main_process():
        try:
            write_checkpoint(file, error.step)
        except OSError as full:
            note = f"this step could not be saved ({full})"
    return FloatingPointError(f"{error}; {note}")


def debug_step(path: str | Path) -> dict[str, float]:
    """Compute the losses of a failed step again, on the CPU.

    Args:
        path: `failed-step.pt` of a run directory.

    Returns:
        Loss name -> mean over the micro-batches whose losses were not finite.
    """
    step = read_checkpoint(Path(path))
    model = build_model(ModelSettings(**step["settings"]), step["classes"])
    model.load_state_dict(step["weights"])
    parts = [Part(name) for name in step["parts"]]
    training_step = TrainingStep(optimize(model), TrainSettings(**step["train"]), parts)
    training_step.set_modes()
    precision = getattr(torch, step["precision"])
    means: dict[str, float] = {}
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        for values, seeds in step["batches"]:
            batch = Batch(*values)
            batch = batch._replace(targets=[Target(*target) for target in batch.targets])
            seed_dropout(seeds)
            losses = training_step(batch, [generator_of(*seed) for seed in seeds])
            for name, value in losses.items():
                means[name] = means.get(name, 0.0) + value.item() / len(step["batches"])
    return means


def _plain(batch: Batch) -> tuple[Any, ...]:
    """Without our own types, which `weights_only` does not load. Images are named without their folder: the file may
    be passed on."""
    plain = batch._replace(
        targets=[tuple(target) for target in batch.targets],  # type: ignore[misc]
        image_names=[Path(name).name for name in batch.image_names],
    )
    return tuple(plain)
