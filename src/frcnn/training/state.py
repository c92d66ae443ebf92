"""Everything that training carries from one step to the next, in memory and in the checkpoint.

Nothing random is in it: samples, orders and dropout follow from the seed and the place in training alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from frcnn.nn.detector import FasterRCNN
from frcnn.training.optimizer import make_average, make_optimizer
from frcnn.training.phases import Phase
from frcnn.training.schedule import Position, locate


class Best(NamedTuple):
    """The best measurement so far: the highest AP, and of several, the lowest loss."""

    mean_ap: float
    loss: float
    epoch: int
    """Of all phases, from 1."""
    waited: int
    """Measurements since then."""


class TrainingState:
    """What is trained, how far it is, and all that the next step depends on.

    Contract: a state that is saved after any step, and loaded into a new one of the same settings, goes on to the same
    weights, bit by bit.

    Args:
        detector: as training begins with it.
        steps_per_epoch: of all processes together.
    """

    optimizer: Optimizer
    scaler: GradScaler
    """Of the loss, for fp16; does nothing in other precisions."""
    average: AveragedModel | None = None
    best: Best | None = None
    step: int = 0
    """How many are done."""

    def __init__(self, detector: FasterRCNN, phases: Sequence[Phase], steps_per_epoch: int) -> None:
        self.detector = detector
        self.phases = tuple(phases)
        self.steps_per_epoch = steps_per_epoch
        restarted = {part.value for phase in phases for part in phase.restart}
        self._start = {name: t.clone() for name, t in detector.state_dict().items() if _part(name) in restarted}
        self._saved: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.epochs for phase in self.phases) * self.steps_per_epoch

    @property
    def position(self) -> Position:
        """Of the step that comes next."""
        return locate(self.step, self.phases, self.steps_per_epoch)

    @property
    def outcome(self) -> FasterRCNN:
        """What would be kept if training ended now: the average where there is one."""
        return self.detector if self.average is None else self.average.module  # type: ignore[return-value]

    def restart(self) -> None:
        """Put the parts that begin again in this phase back to where they were before the first."""
        parts = {part.value for part in self.phases[self.position.phase].restart}
        chosen = {name: tensor for name, tensor in self._start.items() if _part(name) in parts}
        self.detector.load_state_dict(chosen, strict=False)

    def begin(self, device: torch.device, precision: torch.dtype) -> None:
        """Make optimiser, scaler and average of the phase, or take them up as they were saved."""
        settings = self.detector.config.train
        self.optimizer = make_optimizer(self.detector, self.phases[self.position.phase], settings, precision)
        self.scaler = GradScaler(device.type, enabled=precision == torch.float16)
        self.average = None if settings.ema_decay is None else make_average(self.detector, settings.ema_decay)
        for name, saved in self._saved.items():
            getattr(self, name).load_state_dict(saved)
        self._saved = {}

    def end(self) -> None:
        """End the phase: the average, where there is one, takes the place of the weights."""
        if self.average is not None:
            self.detector.load_state_dict(self.average.module.state_dict())
        self.average = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and names only."""
        parts: dict[str, Any] = {}
        if not self.position.begins_phase:  # which makes them
            parts = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        best = None if self.best is None else tuple(self.best)
        return {"detector": self.detector.state_dict(), "step": self.step, "best": best, "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.detector.load_state_dict(state["detector"])
        self.step = state["step"]
        self.best = None if state["best"] is None else Best(*state["best"])
        self._saved = state["parts"]


def _part(name: str) -> str:
    return name.partition(".")[0]
