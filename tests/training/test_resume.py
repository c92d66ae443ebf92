"""An interrupted run resumes and ends with bit-identical weights."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SETTINGS, tiny_config, tiny_model, train_tiny, write_annotated, write_tiny
from torch import Tensor

from frcnn.cli.training_log import TrainingLog
from frcnn.files import atomic_write
from frcnn.nn.device import choose_precision
from frcnn.nn.model_file import load_model
from frcnn.training import engine
from frcnn.training import train as run_module
from frcnn.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from frcnn.training.loggers import read_metrics
from frcnn.training.optimizer import parameters_of
from frcnn.training.reports import StepReport, ValidationReport
from frcnn.training.run_dir import locked
from frcnn.training.schemes import phases_of
from frcnn.training.state import Best, TrainingState

EVERY_STEP = "train.checkpoint_seconds=0"
NO_CHECKPOINT = "train.checkpoint_seconds=1e9"
SCHEMES = {
    "end to end": (),
    "with dropout, an average and several batches a step": (
        "train.ema_decay=0.9",
        "train.accumulate=2",
        "base_model.dropout=0.5",
    ),
    "with validation": ("train.epochs=3", "train.validate_every=1", "data.val_fraction=0.3"),
    "alternating": ("train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1"),
    "fp16": ("train.precision=fp16", "train.lr=0.001"),
    "batch norm that learns": ("base_model.freeze_batch_norm=false",),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "data")


class InterruptError(Exception):
    """Ends training like the death of the process: frcnn does not catch it."""


NEVER_BETTER = {"map50": 0.5, "map": 0.0, "loss": 1.0, "losses": {}, "recall": {}}
"""A validation; no later one is better."""


def interrupt_after(step: int) -> Callable[[StepReport], None]:
    def on_step(report: StepReport) -> None:
        if report.step == step:
            raise InterruptError

    return on_step


def die(*_: object) -> None:
    raise InterruptError


def weights(run: Path) -> dict[str, Tensor]:
    return load_model(run).state_dict()


def metrics_of(run: Path) -> list[dict[str, object]]:
    """All metrics except time and memory."""
    return [{k: v for k, v in line.items() if k not in ("seconds", "memory")} for line in read_metrics(run)]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=[pytest.mark.slow] if name in ("fp16", "batch norm that learns") else [])
        for name, settings in SCHEMES.items()
    ],
)
def test_a_run_interrupted_anywhere_resumes_to_bit_identical_weights(
    data: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps: list[int] = []
    train_tiny(data, whole, *settings, on_step=lambda report: steps.append(report.steps))
    for step in range(1, steps[0] + 1, 3):
        with pytest.raises(InterruptError):
            train_tiny(data, cut, EVERY_STEP, *settings, on_step=interrupt_after(step))
    train_tiny(data, cut, EVERY_STEP, *settings)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=0, atol=0)
    assert metrics_of(cut) == metrics_of(whole)
    assert {file.name for file in cut.iterdir()} == {file.name for file in whole.iterdir()}
    assert not any(file.name.startswith((".", "checkpoint", "proposals")) for file in cut.iterdir())


def test_steps_after_the_last_checkpoint_are_repeated(data: Path, tmp_path: Path) -> None:
    train_tiny(data, tmp_path / "whole")
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "cut", NO_CHECKPOINT, on_step=interrupt_after(7))
    assert len(read_metrics(tmp_path / "cut")) == 7
    steps: list[int] = []
    train_tiny(data, tmp_path / "cut", NO_CHECKPOINT, on_step=lambda report: steps.append(report.step))
    assert steps == list(range(1, 11))
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")
    torch.testing.assert_close(weights(tmp_path / "cut"), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_interrupted_after_early_stopping_the_last_weights_are_the_same(
    data: Path, tmp_path: Path, monkeypatch
) -> None:
    """Also the moving average, which is in memory and in the checkpoint only."""
    settings = ("train.epochs=9", "train.validate_every=1", "data.val_fraction=0.3", "train.patience=1")
    settings = (*settings, "train.ema_decay=0.9", EVERY_STEP)
    report = partial(ValidationReport, **NEVER_BETTER)  # type: ignore[arg-type]
    monkeypatch.setattr(engine, "validate", lambda *_, epoch, step, **__: report(epoch=epoch, step=step))
    train_tiny(data, tmp_path / "whole", *settings)
    with monkeypatch.context() as cut:
        cut.setattr(run_module, "_store", die)
        with pytest.raises(InterruptError):
            train_tiny(data, tmp_path / "cut", *settings)
    train_tiny(data, tmp_path / "cut", *settings)
    for file in ("model.safetensors", "last.safetensors"):
        whole, cut = (load_model(tmp_path / run / file).state_dict() for run in ("whole", "cut"))
        torch.testing.assert_close(whole, cut, rtol=0, atol=0)
    assert metrics_of(tmp_path / "cut") == metrics_of(tmp_path / "whole")


def test_a_run_resumes_without_its_metrics(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    train_tiny(data, tmp_path / "run", EVERY_STEP)
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == list(range(4, 11))


def test_a_killed_process_resumes_with_the_same_command(data: Path, tmp_path: Path) -> None:
    """SIGKILL at arbitrary moments; once while a checkpoint is being written."""
    out = tmp_path / "runs" / "data-efficientnet_lite0"
    settings = [*SETTINGS, EVERY_STEP, "train.epochs=4"]
    command = [sys.executable, "-m", "frcnn", "train", str(data), "--weights", "none", "--offline"]
    command += [part for setting in settings for part in ("--set", setting)]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
        while not condition():
            assert process.poll() is None
            time.sleep(0.0005)

    def steps() -> int:
        file = out / "metrics.jsonl"
        return len(file.read_bytes().splitlines()) if file.exists() else 0

    for kill in range(2):
        process, before = start(), steps()
        wait_for(lambda before=before: steps() > before + 3, process)  # type: ignore[misc]
        if kill == 1:
            wait_for(lambda: any(out.glob(".partial-*-checkpoint.pt")), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (out / "checkpoint.pt").is_file()
        assert not (out / "model.safetensors").exists()
    last = start()
    text = last.communicate()[0].decode()
    assert last.returncode == 0, text
    assert "resumes after step" in text
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == [out.name]
    train_tiny(data, tmp_path / "whole", "train.epochs=4", plan=True)
    torch.testing.assert_close(weights(out), weights(tmp_path / "whole"), rtol=0, atol=0)
    assert metrics_of(out) == metrics_of(tmp_path / "whole")
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("moment", ["remove_leftovers", "draw_curves", "evaluate"])
def test_a_run_that_is_interrupted_after_its_last_step_is_finished(
    moment: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise InterruptError

    with monkeypatch.context() as patch:
        patch.setattr(f"frcnn.training.train.{moment}", interrupt)
        with pytest.raises(InterruptError):
            train_tiny(data, None, EVERY_STEP)
    (run,) = (tmp_path / "runs").iterdir()
    before = weights(run)
    result = train_tiny(data, None, EVERY_STEP)
    assert (result.run_dir.resolve(), result.trained) == (run, False)
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == [run.name]
    torch.testing.assert_close(weights(run), before, rtol=0, atol=0)
    assert metrics_of(run)
    assert (run / "curves.png").is_file()
    assert not list(run.glob(".*"))
    assert not (run / "checkpoint.pt").exists()
    assert train_tiny(data, None, EVERY_STEP).run_dir.name == f"{run.name}-2"  # nothing is left to do there


def test_a_trained_run_of_other_data_is_left_as_it_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise InterruptError

    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(data, tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr("frcnn.training.train.evaluate", interrupt)
        with pytest.raises(InterruptError):
            train_tiny(data, None)
    (run,) = (tmp_path / "runs").iterdir()
    write_annotated(data / "positive" / "new.png", [("red", (10, 10, 60, 60))])
    before = weights(run)
    result = train_tiny(data, None)
    assert (result.run_dir.name, result.trained) == (f"{run.name}-2", True)
    torch.testing.assert_close(weights(run), before, rtol=0, atol=0)


def test_a_run_that_is_being_evaluated_is_not_touched(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: list[str] = []
    evaluate = run_module.evaluate

    def train_meanwhile(*arguments: Any, **options: Any) -> Any:
        if not names:
            names.append("")  # once
            names[0] = train_tiny(data, None).run_dir.name
        return evaluate(*arguments, **options)

    monkeypatch.setattr("frcnn.training.train.evaluate", train_meanwhile)
    first = train_tiny(data, None).run_dir.name
    assert names == [f"{first}-2"]


# --------------------------------------------------------------------------------------------- which run resumes


def test_the_same_call_resumes_and_another_starts_a_new_run(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InterruptError):
        train_tiny(data, None, on_step=interrupt_after(1))
    assert train_tiny(data, None, "train.seed=9", epochs=1).run_dir.name == "data-efficientnet_lite0-2"
    with pytest.raises(InterruptError):
        train_tiny(data, None, on_step=interrupt_after(1))  # the last run directory has other settings
    assert train_tiny(data, None).run_dir.name == "data-efficientnet_lite0-3"


def test_resume_without_a_run_directory_names_the_obstacle(data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"runs/data-efficientnet_lite0: there is no interrupted run"):
        train_tiny(data, None, resume=True)
    with pytest.raises(InterruptError):
        train_tiny(data, None, on_step=interrupt_after(1))
    with pytest.raises(FileNotFoundError, match=r"lite0: this run cannot resume \(train\.seed: 3 there, 4 now"):
        train_tiny(data, None, "train.seed=4", resume=True)


def test_settings_without_effect_on_the_weights_may_change(data: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, "data.workers=0", on_step=interrupt_after(4))
    train_tiny(data, tmp_path / "run", "data.workers=2", callbacks=[TrainingLog()])
    assert f"{tmp_path / 'run'}: resumes after step 3 of 10\n" in capsys.readouterr().out


def test_a_run_does_not_resume_with_other_settings(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    checkpoint = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with pytest.raises(FileExistsError, match=r"other settings \(train\.seed: 3 there, 4 now\); use the same"):
        train_tiny(data, tmp_path / "run", "train.seed=4")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == checkpoint


def test_a_run_does_not_resume_with_other_data(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    (data / "positive" / "0.bboxes.tsv").write_text("1\t1\t40\t40\n1\t1\t50\t50\n")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: the data has changed, so the run cannot resume"):
        train_tiny(data, tmp_path / "run", EVERY_STEP)


def test_a_run_does_not_resume_in_another_precision(data: Path, tmp_path: Path, monkeypatch) -> None:
    """As "auto" may choose on another machine."""
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, "train.precision=auto", on_step=interrupt_after(4))
    other = {torch.bfloat16: torch.float32, torch.float32: torch.bfloat16}
    monkeypatch.setattr(run_module, "choose_precision", lambda *args: other[choose_precision(*args)])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: precision was \w+ and is now \w+, .*; set train\.precision"):
        train_tiny(data, tmp_path / "run", EVERY_STEP, "train.precision=auto")


def test_a_finished_run_without_its_model_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    train_tiny(data, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        train_tiny(data, tmp_path / "run")


def test_interrupted_after_the_model_was_stored_only_leftovers_are_removed(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_tiny(data, run)
    for name in (".unfinished", "checkpoint.pt", "proposals-2-roi.npy"):
        (run / name).write_bytes(b"")
    train_tiny(data, run, "train.skip_existing=true")
    assert not list(run.glob(".*"))
    assert not (run / "checkpoint.pt").exists()
    assert not list(run.glob("proposals*"))


def test_resume_needs_a_run_to_resume(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no interrupted run; train without resume \(--resume\)"):
        train_tiny(data, tmp_path / "run", resume=True)
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    train_tiny(data, tmp_path / "run", EVERY_STEP, resume=True)
    assert not train_tiny(data, tmp_path / "run", EVERY_STEP, resume=True).trained


def test_resume_needs_no_options_but_the_run_directory(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    result = run_module.train(out=tmp_path / "run", resume=True, offline=True)
    assert (result.run_dir / "model.safetensors").is_file()


def test_one_training_at_a_time(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    with locked(tmp_path / "run"), pytest.raises(FileExistsError, match="another training writes there"):
        train_tiny(data, tmp_path / "run", EVERY_STEP)
    train_tiny(data, tmp_path / "run", EVERY_STEP)


def test_a_lock_is_released_where_an_open_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(f"{path} is open")

    with monkeypatch.context() as patch, locked(tmp_path):
        patch.setattr(Path, "unlink", refuse)
    with locked(tmp_path):
        pass


def test_a_run_that_appears_while_another_one_starts_is_not_overwritten(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = run_module._timed

    def slow(*arguments: Any) -> Any:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "model.safetensors").write_text("of the other run")
        return timed(*arguments)

    monkeypatch.setattr(run_module, "_timed", slow)
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        train_tiny(data, tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_text() == "of the other run"


# ------------------------------------------------------------------------------------------------- atomic files


def test_a_checkpoint_is_written_atomically(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    write_checkpoint(file, {"step": 1, "weights": torch.arange(5.0)})
    with pytest.raises(InterruptError), atomic_write(file) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        raise InterruptError
    assert read_checkpoint(file)["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 half an archive"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged, or not a checkpoint .*; delete it to start again"):
        read_checkpoint(tmp_path / "checkpoint.pt")


def test_a_full_disk_is_a_clear_error_and_the_run_resumes_later(data: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: the second checkpoint does not fit."""
    train_tiny(data, tmp_path / "whole")
    run = tmp_path / "run"

    def fill(report: StepReport) -> None:
        if report.step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"run: no space left on the disk \(.*\); free some, and run"):
            train_tiny(data, run, EVERY_STEP, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, before)
    assert read_checkpoint(run / "checkpoint.pt")["state"]["step"] == 3
    assert not list(run.glob(".partial*"))
    train_tiny(data, run, EVERY_STEP)
    torch.testing.assert_close(weights(run), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_a_disk_that_is_full_of_proposals_is_a_clear_error_too(data: Path, tmp_path: Path) -> None:
    run, settings = tmp_path / "run", ("train.scheme=alternating", "train.rpn_epochs=1", "train.roi_epochs=1")

    def fill(report: StepReport) -> None:
        if report.step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"run: no space left on the disk"):
            train_tiny(data, run, NO_CHECKPOINT, *settings, on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, before)
    train_tiny(data, run, NO_CHECKPOINT, *settings)
    assert (run / "model.safetensors").is_file()


def test_a_link_in_place_of_the_metrics_is_replaced(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    outside = tmp_path / "outside"
    outside.write_text("mine, and not to be cut off\n" * 100)
    for name in ("metrics.jsonl", ".lock"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
        (tmp_path / "run" / name).symlink_to(outside)
    train_tiny(data, tmp_path / "run", EVERY_STEP)
    assert outside.read_text() == "mine, and not to be cut off\n" * 100
    assert not (tmp_path / "run" / "metrics.jsonl").is_symlink()


def test_partial_files_of_killed_processes_are_removed(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptError):
        train_tiny(data, tmp_path / "run", EVERY_STEP, on_step=interrupt_after(4))
    (tmp_path / "run" / f".partial-{os.getpid() + 1}-checkpoint.pt").write_bytes(b"half")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"event": "step", "half a li')
    train_tiny(data, tmp_path / "run", EVERY_STEP)
    assert not list((tmp_path / "run").glob(".partial*"))
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == list(range(1, 11))


# ---------------------------------------------------------------------------------------------- damaged checkpoints


def state_of_training(*settings: str) -> TrainingState:
    """The state after the first of ten steps."""
    config = tiny_config("train.ema_decay=0.9", "train.precision=fp16", *settings)
    state = TrainingState(tiny_model(), config.train, phases_of(config.train), 5, torch.float16)
    state.begin_phase()
    for parameter in parameters_of(state.optimizer):
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.advance()
    state.best = Best(0.5, 1.0, 1, 0)
    return state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    Checkpoint(folder, state_of_training(), data="d").update(now=True)
    return folder / "checkpoint.pt"


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: inner(content, keys[:-1]).pop(keys[-1])


def with_value(value: object, *keys: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: inner(content, keys[:-1]).__setitem__(keys[-1], value)


def inner(content: Any, keys: Sequence[Any]) -> Any:
    for key in keys:
        content = content[key]
    return content


@pytest.mark.parametrize(
    "damage",
    [
        *(without(key) for key in ("state", "conditions", "metrics_size")),
        *(without("state", key) for key in ("model", "step", "best", "optimizer", "scaler", "average")),
        without("conditions", "data"),
        without("state", "model", "rpn.objectness.bias"),
        without("state", "optimizer", "state"),
        *(with_value(None, key) for key in ("state", "conditions", "metrics_size")),
        *(with_value([1], "state", key) for key in ("model", "step", "best", "optimizer", "scaler", "average")),
        with_value(torch.zeros(2, 2), "conditions", "images per step"),
        with_value(torch.zeros(1), "state", "model", "rpn.objectness.bias"),
        with_value("text", "state", "step"),
        with_value(-3, "state", "step"),
        with_value(["a", 1, 2, 3], "state", "best"),
        with_value(torch.zeros(1), "state", "optimizer", "state", 0, "momentum_buffer"),
        with_value(7, "state", "optimizer", "state", 0),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(
    damage: Callable[[dict[str, Any]], None], checkpoint: Path, tmp_path: Path
) -> None:
    content = read_checkpoint(checkpoint)
    damage(content)
    write_checkpoint(tmp_path / "checkpoint.pt", content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged, or not a checkpoint .*; delete it to start again"):
        Checkpoint(tmp_path, state_of_training(), data="d").restore()


def test_what_is_restored_is_what_was_saved(checkpoint: Path) -> None:
    state = state_of_training()
    expected = deepcopy(state.state_dict())
    state.step, state.best = 0, None
    for tensor in (*state.model.parameters(), *(own["momentum_buffer"] for own in state.optimizer.state.values())):
        torch.nn.init.zeros_(tensor)
    Checkpoint(checkpoint.parent, state, data="d").restore()
    torch.testing.assert_close(state.state_dict(), expected, rtol=0, atol=0)
