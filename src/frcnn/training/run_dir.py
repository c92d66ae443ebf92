"""The run directory: which one a training writes to, and whether an interrupted run resumes there."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout

from frcnn import distributed
from frcnn.config import Config, dump, dump_run, flat, read_run_config
from frcnn.files import remove_links, remove_partial, write_text
from frcnn.run_files import (
    BUDGET_FILE,
    CACHE_FOLDER,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    LOCK_FILE,
    METRICS_FILE,
    MODEL_FILE,
    TENSORBOARD_FOLDER,
    UNFINISHED_FILE,
)

HARMLESS = frozenset(
    {
        "data.cache",
        "data.workers",
        "data.num_test_images",
        "data.test_split",
        "train.skip_existing",
        "train.checkpoint_seconds",
        "train.logger",
        "train.draw_graph",
        "train.graph_type",
    }
)
"""Settings without effect on the weights: an interrupted run may resume with other values."""
_EPOCHS = {"train.epochs", "train.rpn_epochs", "train.roi_epochs"}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def choose_run_dir(config: Config, out: str | Path | None, *, resume: bool) -> tuple[Path, bool]:
    """Choose the run directory. Returns it, and whether it holds a trained model: that of a finished run, or of a run
    that was interrupted after its last step.

    Args:
        out: the run directory; None: the interrupted run in runs/DATA-BASEMODEL with these settings, else a new one.
            The name of a smoke test ends with -smoke-test.
        resume: a run must be there to resume.

    Raises:
        FileExistsError: the folder is not empty, and holds no interrupted run with these settings.
        FileNotFoundError: there is no run to resume.
    """
    name = f"{config.data.name or Path(str(config.data.path)).name}-{config.base_model.name}"
    name += "-smoke-test" if config.train.smoke_test else ""
    run_dir = Path(out) if out is not None else _interrupted_run(name, config)
    if run_dir is None:
        run_dir = Path("runs") / name if config.train.skip_existing else new_run_dir(None, name)
    if is_trained(run_dir) and (config.train.skip_existing or resume):
        return run_dir, True
    if resume and not is_unfinished(run_dir):
        reason = _why_not_resumed(name, config) if out is None else f"{run_dir}: there is no interrupted run"
        raise FileNotFoundError(f"{reason}; train without resume (--resume) to start a new run")
    _require_usable(run_dir, config)
    return run_dir, is_trained(run_dir)


def new_run_dir(out: str | Path | None, name: str) -> Path:
    """`out`, or the first free one of runs/name, runs/name-2, ..."""
    if out is not None:
        return Path(out)
    taken = {folder.name for folder in numbered(name)}
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return Path("runs") / next(free for free in names if free not in taken)


@contextmanager
def claimed(run_dir: Path, config: Config, budget: float | None = None) -> Iterator[None]:
    """Make the run directory, write the settings, and keep other trainings out. All processes must call it.

    Args:
        budget: `train.budget` that the epochs were chosen for.

    Raises:
        FileExistsError: another training writes there, or has written there in the meantime.
        OSError: the disk is full.
        ValueError: the run directory is not shared by all machines.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        if not distributed.is_main_process():
            distributed.barrier()
            if not (run_dir / CONFIG_FILE).is_file():
                raise ValueError(f"{run_dir}: must be in a folder that all machines see; set out (--out)")
            yield
            return
        remove_links(run_dir, LOCK_FILE)
        with locked(run_dir):
            if is_trained(run_dir) or is_unfinished(run_dir):  # a run that began after this one chose the folder
                _require_usable(run_dir, config)
            remove_links(run_dir, METRICS_FILE, CACHE_FOLDER, TENSORBOARD_FOLDER)
            remove_partial(run_dir)
            if budget is not None:
                write_text(run_dir / BUDGET_FILE, f"{budget}\n")
            write_text(run_dir / UNFINISHED_FILE, "Training is not finished. Run the same command again to resume.\n")
            for name, text in dump_run(config).items():
                write_text(run_dir / name, text)
            distributed.barrier()
            yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OSError(
            f"{run_dir}: no space left on the disk ({error}); free some, and run the same command again to resume from "
            f"the last checkpoint"
        ) from error


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other trainings out of the run directory. The system releases the lock of a process that dies.

    Raises:
        FileExistsError: another training holds the lock.
    """
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{run_dir}: another training writes there; wait, or choose another run directory (out=, --out)"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file; there, `release` does it
            (run_dir / LOCK_FILE).unlink()
        lock.release()


def remove_leftovers(run_dir: Path) -> None:
    """Remove the files that only serve to resume a training."""
    for file in (run_dir / CHECKPOINT_FILE, *run_dir.glob("proposals-*.npy")):
        file.unlink(missing_ok=True)
    shutil.rmtree(run_dir / CACHE_FOLDER, ignore_errors=True)


def mark_trained(run_dir: Path, data: str) -> None:
    """Mark the run as trained, but not yet evaluated.

    Args:
        data: fingerprint of the data.
    """
    text = f"Training is finished, the evaluation is not. Run the same command again to complete it.\n{data}\n"
    write_text(run_dir / UNFINISHED_FILE, text)


def trained_on(run_dir: Path) -> str:
    """The fingerprint of the data of a run that is trained, but not evaluated; "" if it is not known."""
    return "".join((run_dir / UNFINISHED_FILE).read_text(encoding="utf-8").splitlines()[1:2])


def mark_finished(run_dir: Path) -> None:
    """Mark the run as finished, so that the same command starts a new run."""
    remove_leftovers(run_dir)
    for name in (BUDGET_FILE, UNFINISHED_FILE):
        (run_dir / name).unlink(missing_ok=True)


def is_unfinished(run_dir: Path) -> bool:
    """Whether an interrupted run is there, which can resume."""
    return (run_dir / UNFINISHED_FILE).is_file() and (run_dir / CONFIG_FILE).is_file()


def is_trained(run_dir: Path) -> bool:
    """Whether a trained model is there."""
    return (run_dir / MODEL_FILE).is_file()


def different_settings(run_dir: Path, config: Config) -> list[str]:
    """The settings that differ from those in the run directory, e.g. "train.lr: [0.01] there, [0.02] now"; without
    those that have no effect on the weights."""
    try:
        there, now = flat(dump(read_run_config(run_dir))), flat(dump(config))
        if (run_dir / BUDGET_FILE).is_file():
            there["train.budget"] = float((run_dir / BUDGET_FILE).read_text(encoding="utf-8"))
    except ValueError as error:  # e.g. settings of another version
        return [f"{CONFIG_FILE}: {error}"]
    # With a budget, the epochs depend on the machine; without one, they say what the budget was.
    free = HARMLESS | ({"train.budget"} if config.train.budget is None else _EPOCHS)
    return [
        f"{key}: {there[key]} there, {now[key]} now"
        for key in now
        if there[key] != now[key] and key not in free and not key.startswith("detector.draw.")
    ]


def _interrupted_run(name: str, config: Config) -> Path | None:
    """The last one of runs/name, runs/name-2, ..., if it is an interrupted run with these settings."""
    taken = numbered(name)
    if not taken or not is_unfinished(taken[-1]) or _is_locked(taken[-1]) or different_settings(taken[-1], config):
        return None
    return taken[-1]


def _why_not_resumed(name: str, config: Config) -> str:
    """Why the last one of runs/name, runs/name-2, ... does not resume."""
    taken = numbered(name)
    if not taken:
        return f"runs/{name}: there is no interrupted run"
    if not is_unfinished(taken[-1]):
        return f"{taken[-1]}: this run was not interrupted"
    different = "; ".join(different_settings(taken[-1], config)[:5]) or "another training writes there"
    return f"{taken[-1]}: this run cannot resume ({different})"


def _require_usable(run_dir: Path, config: Config) -> None:
    if not run_dir.exists() or (run_dir.is_dir() and not any(run_dir.iterdir())):
        return
    if not run_dir.is_dir() or not is_unfinished(run_dir):
        raise FileExistsError(
            f"{run_dir}: exists and is not overwritten; choose another run directory (out=, --out), or delete it first"
        )
    different = different_settings(run_dir, config)
    if different:
        raise FileExistsError(
            f"{run_dir}: holds an interrupted run with other settings ({'; '.join(different[:5])}); use the same "
            f"settings to resume it, choose another run directory (out=, --out), or delete it first"
        )


def _is_locked(run_dir: Path) -> bool:
    if not (run_dir / LOCK_FILE).exists():
        return False
    try:
        with locked(run_dir):
            return False
    except FileExistsError:
        return True


def numbered(name: str) -> list[Path]:
    """Those of runs/name, runs/name-2, ... that exist, in order."""
    numbers = {}
    for folder in Path("runs").glob("*"):
        start, _, number = folder.name.rpartition("-")
        if folder.name == name:
            numbers[folder] = 1
        elif start == name and number.isdecimal():
            numbers[folder] = int(number)
    return sorted(numbers, key=lambda folder: numbers[folder])
