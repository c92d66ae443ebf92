"""Everything that training carries from one step to the next, in memory and in the checkpoint.

No state of a random number generator is part of it: samples, image order and dropout follow from the seed and the
step.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from frcnn.config import TrainSettings
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.training.optimizer import make_average, make_optimizer
from frcnn.training.reports import ValidationReport
from frcnn.training.schedule import Position, images_per_step, locate
from frcnn.training.schemes import Phase


class Best(NamedTuple):
    """The best validation so far: the one with the highest AP; if several have it, the one with the lowest loss."""

    map50: float
    loss: float
    epoch: int
    """Over all phases, from 1."""
    waited: int
    """Validations since then."""


class TrainingState:
    """The model, the optimizer, and how far training has come.

    Contract: a state that is saved after any step and loaded into a new state with the same settings trains to
    bit-identical weights.

    Args:
        model: untrained, on the device to train on.
        settings: of the training.
        phases: the training scheme.
        steps_per_epoch: all processes together.
        precision: of the layers.
    """

    optimizer: Optimizer
    scaler: GradScaler
    """Scales the loss for float16; does nothing in other precisions."""
    average: AveragedModel | None = None
    """Moving average of the weights, if `train.ema_decay` is set."""
    best: Best | None = None
    step: int = 0
    """Steps done."""
    should_stop: bool = False
    """Set by a callback, or by early stopping: training ends after the current step."""

    def __init__(
        self,
        model: FasterRCNN,
        settings: TrainSettings,
        phases: Sequence[Phase],
        steps_per_epoch: int,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.settings = settings
        self.phases = tuple(phases)
        self.steps_per_epoch = steps_per_epoch
        self.images_per_step = images_per_step(settings)
        self.precision = precision
        self.device = next(model.parameters()).device
        restarted = {part.value for phase in phases for part in phase.restart}
        self._initial = {name: t.clone() for name, t in model.state_dict().items() if _part(name) in restarted}

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.epochs for phase in self.phases) * self.steps_per_epoch

    @property
    def position(self) -> Position:
        """Of the next step."""
        return locate(self.step, self.phases, self.steps_per_epoch)

    @property
    def phase(self) -> Phase:
        """Of the next step; after the last one, the last phase."""
        return self.phases[min(self.position.phase, len(self.phases) - 1)]

    @property
    def outcome(self) -> FasterRCNN:
        """The model that is stored if training ends now: the moving average if there is one, else `model`."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def begin_phase(self) -> None:
        """Reset the parts that restart in this phase to their initial weights; make optimizer, scaler and average."""
        parts = {part.value for part in self.phase.restart}
        initial = {name: tensor for name, tensor in self._initial.items() if _part(name) in parts}
        self.model.load_state_dict(initial, strict=False)
        self._make_optimizer()

    def advance(self) -> None:
        """Count one step and update the average. When the phase ends, the average replaces the weights."""
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        if self.average is not None and self.position.begins_phase:
            self.model.load_state_dict(self.average.module.state_dict())
            self.average = None

    def update_best(self, validation: ValidationReport) -> bool:
        """Compare a validation with the best one.

        Returns:
            Whether it is the new best.
        """
        best, patience = self.best, self.settings.patience
        score = (validation.map50, -validation.loss)
        if best is None or math.isnan(best.map50) or score > (best.map50, -best.loss):
            self.best = Best(validation.map50, validation.loss, validation.epoch, 0)
            return True
        self.best = best._replace(waited=best.waited + 1)
        self.should_stop |= patience is not None and self.best.waited >= patience
        return False

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and names only."""
        saved: dict[str, Any] = {
            "model": self.model.state_dict(),
            "step": self.step,
            "best": None if self.best is None else tuple(self.best),
        }
        if not self.position.begins_phase:  # else the phase makes new ones
            saved |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            saved |= {} if self.average is None else {"average": self.average.state_dict()}
        return saved

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            Exception: this is not the state of such a training; of many classes.
        """
        self.model.load_state_dict(saved["model"])
        self.step = int(saved["step"])
        if self.step < 0:
            raise ValueError(f"{self.step} steps are done")
        best = saved["best"]
        kinds = (float, float, int, int)
        self.best = None if best is None else Best(*(kind(value) for kind, value in zip(kinds, best, strict=True)))
        if not self.position.begins_phase:
            self._make_optimizer()
            # Its options follow from the settings; only what it remembers of each weight is restored.
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": saved["optimizer"]["state"]})
            for parameter, remembered in self.optimizer.state.items():
                momentum = remembered.get("momentum_buffer")
                if momentum is not None and momentum.shape != parameter.shape:
                    raise ValueError(f"momentum has the shape {list(momentum.shape)}, not {list(parameter.shape)}")
            scale = {name: type(value)(saved["scaler"][name]) for name, value in self.scaler.state_dict().items()}
            self.scaler.load_state_dict(scale)
            if self.average is not None:
                self.average.load_state_dict(saved["average"])

    def _make_optimizer(self) -> None:
        self.optimizer = make_optimizer(self.model, self.phase, self.settings, self.precision)
        self.scaler = GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.average = None if self.settings.ema_decay is None else make_average(self.model, self.settings.ema_decay)


def _part(name: str) -> str:
    return name.partition(".")[0]
