"""A step whose loss was not finite, kept so that it can be looked at again."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frcnn import processes
from frcnn.config import dump, from_dict
from frcnn.data.loader import batch_to
from frcnn.nn.detector import FasterRCNN
from frcnn.ops.sampling import generator_of, seed_of
from frcnn.training.checkpoint import read_checkpoint
from frcnn.training.phases import Part
from frcnn.training.step import MicroBatch, TrainingStep
from frcnn.types import Batch, Target


class NonFiniteLossError(FloatingPointError):
    """A loss is infinite or not a number.

    Attributes:
        step: what `replay` takes, tensors, numbers and names only.
    """

    def __init__(self, message: str, step: dict[str, Any]) -> None:
        super().__init__(message)
        self.step = step


def not_finite(
    detector: FasterRCNN,
    parts: Collection[Part],
    failed: Sequence[MicroBatch],
    losses: Mapping[str, float],
    precision: torch.dtype,
    where: str,
) -> NonFiniteLossError:
    """The error for this step; all processes must call it.

    Args:
        failed: the batches of this process whose losses are not finite.
    """
    cpu = torch.device("cpu")
    own = [micro._replace(batch=batch_to(micro.batch, cpu)) for micro in failed]
    everywhere = [batch for batches in processes.gather(own) for batch in batches]
    weights = all(parameter.isfinite().all() for parameter in detector.parameters())
    why = "" if weights else "; the weights were not finite any more, since a step before had gradients that were not"
    images = ", ".join(name for micro in everywhere for name in micro.batch.names)
    named = ", ".join(f"{name}={value:g}" for name, value in losses.items())
    return NonFiniteLossError(
        f"loss is {sum(losses.values()):g} at {where} ({named}), image {images}; "
        f"a lower train.lr or a train.clip_norm may help{why}",
        {
            "detector": detector.state_dict(),
            "config": dump(detector.config),
            "classes": list(detector.classes),
            "parts": [part.value for part in parts],
            "precision": str(precision).removeprefix("torch."),
            "batches": [(_plain(micro.batch), micro.seeds) for micro in everywhere],
        },
    )


def replay(path: str | Path) -> dict[str, float]:
    """Compute the losses of a failed step again, on the CPU.

    Args:
        path: the `failed-step.pt` of a RUN.

    Returns:
        Each loss, the mean over the batches whose losses were not finite.
    """
    step = read_checkpoint(Path(path))
    detector = FasterRCNN(from_dict(step["config"]), step["classes"])
    detector.load_state_dict(step["detector"])
    training = TrainingStep(detector, [Part(name) for name in step["parts"]])
    training.set_modes()
    precision = getattr(torch, step["precision"])
    losses: dict[str, float] = {}
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        for batch, seeds in step["batches"]:
            plain = Batch(*batch)
            batch = plain._replace(targets=[Target(*target) for target in plain.targets])
            seed_dropout(seeds)
            found = training(batch, [generator_of(*seed) for seed in seeds])
            for name, value in found.items():
                losses[name] = losses.get(name, 0.0) + value.item() / len(step["batches"])
    return losses


def seed_dropout(seeds: Sequence[tuple[int, ...]]) -> None:
    """Of a batch, from the seeds of its images' samples: whichever process takes it, and whenever."""
    torch.manual_seed(seed_of(*seeds[0], 0))


def _plain(batch: Batch) -> tuple[Any, ...]:
    """Without our own types, which a checkpoint does not hold."""
    return tuple(batch._replace(targets=[tuple(target) for target in batch.targets]))  # type: ignore[misc]
