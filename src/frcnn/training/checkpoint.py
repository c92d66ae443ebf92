"""The checkpoint of a run directory, from which an interrupted run resumes."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from frcnn import distributed
from frcnn.files import atomic_write
from frcnn.messages import clipped
from frcnn.nn.torch_file import load_torch_file
from frcnn.run_files import CHECKPOINT_FILE, METRICS_FILE
from frcnn.training.state import TrainingState

_FIXES = {
    "images per step": "start as many processes as before",
    "device": "set train.device",
    "precision": "set train.precision (auto chooses by the hardware)",
    "data": "restore the data",
}


class Checkpoint:
    """Saves the training state, and restores it.

    Args:
        run_dir: the run directory.
        state: what is saved and restored.
        data: fingerprint of the training and validation data. A run resumes only with the same data.
    """

    def __init__(self, run_dir: Path, state: TrainingState, *, data: str) -> None:
        self._file = run_dir / CHECKPOINT_FILE
        self._metrics = run_dir / METRICS_FILE
        self._state = state
        self._interval = state.settings.checkpoint_seconds
        self._conditions: dict[str, int | str] = {
            "images per step": state.images_per_step,
            "device": state.device.type,
            "precision": str(state.precision).removeprefix("torch."),
            "data": data,
        }
        self._written = time.monotonic()

    def update(self, *, now: bool = False) -> None:
        """Save the state if the last checkpoint is older than `train.checkpoint_seconds`. Only the main process writes.

        A state whose weights are not finite is not saved. The next step reports them, and the last good checkpoint
        stays.

        Args:
            now: save it in any case.
        """
        if not distributed.is_main_process() or not (now or time.monotonic() - self._written >= self._interval):
            return
        if not all(parameter.isfinite().all() for parameter in self._state.model.parameters()):
            return
        content = {
            "state": self._state.state_dict(),
            "conditions": self._conditions,
            "metrics_size": _flushed_size(self._metrics),
        }
        write_checkpoint(self._file, content)
        self._written = time.monotonic()

    def restore(self) -> None:
        """Load the last checkpoint into the state, if there is one. Metrics of later steps are removed.

        Raises:
            ValueError: the checkpoint is damaged, or device, precision, data or number of images per step differ.
        """
        kept = 0
        if self._file.is_file():
            content = read_checkpoint(self._file)
            with _naming(self._file):
                kept = max(0, int(content["metrics_size"]))
                before = {name: type(now)(content["conditions"][name]) for name, now in self._conditions.items()}
            for name, now in self._conditions.items():
                if before[name] != now:
                    change = "the data has changed" if name == "data" else f"{name} was {before[name]} and is now {now}"
                    raise ValueError(
                        f"{self._file}: {change}, so the run cannot resume with the same result; {_FIXES[name]}, or "
                        f"train into another run directory"
                    )
            with _naming(self._file):
                self._state.load_state_dict(content["state"])
        if distributed.is_main_process() and self._metrics.is_file():
            os.truncate(self._metrics, min(kept, self._metrics.stat().st_size))


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers and names atomically: the old file stays until the new one is on the disk.

    Raises:
        OSError: it cannot be written, e.g. because the disk is full.
    """
    with atomic_write(path) as partial, partial.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # hidden by torch's writer
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote. Code in the file is never run.

    Raises:
        ValueError: the file is damaged, or not a checkpoint.
    """
    with _naming(path):
        return dict(load_torch_file(path))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of a damaged checkpoint become one that names the file.

    Raises:
        ValueError: the block failed, whatever its error; but for those that are not the checkpoint's.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of zipfile, pickle, struct, torch, ...
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a damaged file has a wrong offset
            raise
        reason = clipped(" ".join(f"{type(error).__name__}: {error}".split()))
        raise ValueError(f"{path}: damaged, or not a checkpoint ({reason}); delete it to start again") from None


def _flushed_size(path: Path) -> int:
    """The size of a file in bytes, after all of them are on the disk; 0 if it is missing."""
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)
