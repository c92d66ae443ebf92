"""The file from which a training that was cut off goes on."""

import pickle
import time
from pathlib import Path
from typing import Any

import torch

from frcnn.files import whole_file
from frcnn.training.folder import CHECKPOINT_FILE
from frcnn.training.schedule import images_per_step
from frcnn.training.state import TrainingState

_WAYS_OUT = {
    "images a step": "start as many processes as before",
    "device": "set train.device",
    "precision": "set train.precision (auto takes what the processor has)",
    "data": "put it back",
}


class Checkpoint:
    """A RUN's checkpoint: the state of its training, and what must be the same for it to go on.

    Args:
        run: the RUN folder.
        state: of the training; it is saved, or taken up.
        data: fingerprint of the data that is trained on.
        device, precision: that training takes, after "auto" has been decided.
    """

    def __init__(
        self, run: Path, state: TrainingState, *, data: str, device: torch.device, precision: torch.dtype
    ) -> None:
        self._file = run / CHECKPOINT_FILE
        self._state = state
        self._settings = state.detector.config.train
        self._same = {
            "images a step": images_per_step(self._settings),
            "device": device.type,
            "precision": str(precision).removeprefix("torch."),
            "data": data,
        }
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Was the last one written longer ago than the settings allow?"""
        return time.monotonic() - self._written >= self._settings.checkpoint_seconds

    def write(self, metrics_size: int) -> None:
        """Save the state, unless its weights are not finite, which the next step tells: then the last good ones stay.

        Args:
            metrics_size: bytes of the metrics that belong to it, and are on the disk.
        """
        if not all(parameter.isfinite().all() for parameter in self._state.detector.parameters()):
            return
        write_checkpoint(
            self._file, {"state": self._state.state_dict(), "same": self._same, "metrics_size": metrics_size}
        )
        self._written = time.monotonic()

    def take_up(self) -> int:
        """Put the state to where it was saved, if it was; returns how many bytes of the metrics belong to it.

        Raises:
            ValueError: damaged, or of another training.
        """
        if not self._file.is_file():
            return 0
        content = read_checkpoint(self._file)
        for name, now in self._same.items():
            before = content["same"][name]
            if before != now:
                what = f"{name} {before} before, {now} now" if name != "data" else "the data has changed since"
                raise ValueError(
                    f"{self._file}: {what}; {_WAYS_OUT[name]}, or begin again in another folder, since the weights "
                    f"would become others"
                )
        self._state.load_state_dict(content["state"])
        return int(content["metrics_size"])


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors, numbers and names, whole or not at all: the file that was there stays until this one is safe.

    Raises:
        OSError: it cannot be written, e.g. because the disk is full.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # which torch's writer hides
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote; code in the file never runs.

    Raises:
        ValueError: damaged, or not a checkpoint.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: damaged, or not a checkpoint ({reason}); delete it to begin again") from None
