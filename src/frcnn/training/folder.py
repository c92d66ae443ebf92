"""The RUN folder: which one a training writes to, and whether one that was cut off goes on there."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout

from frcnn.config import Config, dump, merge
from frcnn.nn.weights import MODEL_FILE

CONFIG_FILE = "config.yaml"
CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.safetensors"
LAST_FILE = "last.safetensors"
FAILED_STEP_FILE = "failed-step.pt"
UNFINISHED_FILE = ".unfinished"
LOCK_FILE = ".lock"

HARMLESS = frozenset(
    {
        "data.workers",
        "data.num_test_images",
        "data.test_set",
        "train.skip_if_trained",
        "train.checkpoint_seconds",
        "train.logger",
        "train.draw_graph",
        "train.graph_type",
    }
)
"""Settings that change nothing in the weights, so that a training may go on with others."""


def run_folder(out: str | Path | None, name: str) -> Path:
    """The folder asked for, or the first free one of runs/name, runs/name-2, ..."""
    if out is not None:
        return Path(out)
    taken = {folder.name for folder in _numbered(name)}
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return Path("runs") / next(free for free in names if free not in taken)


def unfinished_run(name: str, config: Config) -> Path | None:
    """The last of runs/name, runs/name-2, ..., if it is a training with these settings that was cut off."""
    taken = _numbered(name)
    if not taken or not is_unfinished(taken[-1]) or _is_busy(taken[-1]) or other_settings(taken[-1], config):
        return None
    return taken[-1]


def why_not_resumed(name: str, config: Config) -> str:
    """What is in the way of going on with the last of runs/name, runs/name-2, ..."""
    taken = _numbered(name)
    if not taken:
        return f"runs/{name}: there is no training that was cut off"
    if not is_unfinished(taken[-1]):
        return f"{taken[-1]}: this training was not cut off"
    different = "; ".join(other_settings(taken[-1], config)[:5]) or "another process trains there"
    return f"{taken[-1]}: this training cannot go on here ({different})"


def remove_leftovers(run: Path) -> None:
    """Remove what only served to go on, when the model is stored."""
    for file in (run / CHECKPOINT_FILE, run / UNFINISHED_FILE, *run.glob("proposals-*.npy")):
        file.unlink(missing_ok=True)


def is_unfinished(run: Path) -> bool:
    return (run / UNFINISHED_FILE).is_file() and (run / CONFIG_FILE).is_file() and not is_finished(run)


def is_finished(run: Path) -> bool:
    return (run / MODEL_FILE).is_file()


def other_settings(run: Path, config: Config) -> list[str]:
    """Where the settings that a RUN began with differ from these, e.g. "train.lr: [0.01] there, [0.02] now"; harmless
    ones are left out."""
    try:
        there, now = _flat(dump(merge(file=run / CONFIG_FILE))), _flat(dump(config))
    except ValueError as error:  # e.g. of another version
        return [f"{CONFIG_FILE}: {error}"]
    return [
        f"{key}: {there[key]} there, {now[key]} now"
        for key in now
        if there[key] != now[key] and key not in HARMLESS and not key.startswith("detector.draw.")
    ]


def require_usable(run: Path, config: Config) -> None:
    """Raise a FileExistsError unless the folder is free, or holds a training with these settings that was cut off."""
    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return
    if not run.is_dir() or not is_unfinished(run):
        raise FileExistsError(
            f"{run}: exists and is not overwritten; choose another folder with --out, or delete it first"
        )
    different = other_settings(run, config)
    if different:
        raise FileExistsError(
            f"{run}: holds a training that was cut off, with other settings ({'; '.join(different[:5])}); repeat them "
            f"to go on, choose another folder with --out, or delete it first"
        )


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other trainings out of the RUN; the lock of a process that died is free.

    Raises:
        FileExistsError: another training has it.
    """
    lock = FileLock(run / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{run}: another training writes there; wait, or choose another folder with --out"
        ) from None
    try:
        yield
    finally:
        (run / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def _is_busy(run: Path) -> bool:
    if not (run / LOCK_FILE).exists():
        return False
    try:
        with locked(run):
            return False
    except FileExistsError:
        return True


def _numbered(name: str) -> list[Path]:
    """Those of runs/name, runs/name-2, ... that exist, in order."""
    numbers = {}
    for folder in Path("runs").glob("*"):
        start, _, number = folder.name.rpartition("-")
        if folder.name == name:
            numbers[folder] = 1
        elif start == name and number.isdecimal():
            numbers[folder] = int(number)
    return sorted(numbers, key=lambda folder: numbers[folder])


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
