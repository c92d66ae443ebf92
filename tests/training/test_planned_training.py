"""Training makes a plan by itself; a budget of time replaces the epochs."""

import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SETTINGS, read_split, tiny_config, tiny_model, train_tiny, write_tiny

import frcnn
from frcnn.cli import main
from frcnn.config import Config, DataSettings, make_config, parse_overrides, read_run_config
from frcnn.data import image_cache
from frcnn.data.images import read_to_resize
from frcnn.training import estimate
from frcnn.training import train as training
from frcnn.training.estimate import estimate_seconds
from frcnn.training.reports import StepReport

NAMED = parse_overrides(SETTINGS)


class ChosenError(Exception):
    """Raised where the run directory would be chosen."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data")


def test_training_makes_a_plan_and_stores_it(data: Path, tmp_path: Path) -> None:
    result = train_tiny(data, tmp_path / "run", plan=True)
    assert result.plan is not None
    used = read_run_config(tmp_path / "run")
    assert result.plan.settings["train.flip"] is True
    assert used.base_model.cascade == result.plan.settings["base_model.cascade"] == 2
    assert not NAMED.keys() & result.plan.settings.keys()
    # The stored plan names all that was chosen, so nothing is left to choose, and the training is the same.
    again = train_tiny(data, tmp_path / "again", config=tmp_path / "run" / "plan.yaml", plan=True)
    assert again.plan is not None
    assert again.plan.settings == {}
    assert read_run_config(tmp_path / "again") == used


@pytest.mark.parametrize("options", [{"plan": False}, {"recipe": "tutorial"}])
def test_without_a_plan_the_settings_stay(data: Path, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is used as it is."""
    asked = []

    def note(config: Config, *_: object, **__: object) -> None:
        asked.append(config)
        raise ChosenError

    monkeypatch.setattr(training, "choose_run_dir", note)
    with pytest.raises(ChosenError):
        frcnn.train(data, **options)
    expected = make_config(recipe=options.get("recipe"))
    assert (asked[0].detector, asked[0].train) == (expected.detector, expected.train)


def test_the_command_shows_the_plan(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *named]) == 0
    printed = capsys.readouterr().out
    assert "train.flip" in printed
    assert "no class seems to depend on left and right" in printed
    assert "--no-plan" in printed
    assert main(["train", str(data), "--out", str(tmp_path / "plain"), "--no-plan", *named]) == 0
    assert "no class seems to depend" not in capsys.readouterr().out


def test_a_detector_that_is_trained_further_keeps_its_layers_and_anchors(data: Path, tmp_path: Path) -> None:
    """Also where the plan or the defaults would choose others."""
    settings = ("detector.anchors.aspect_ratios=[1, 3]", "base_model.box_per_class=false", "base_model.rpn_channels=8")
    first = train_tiny(data, tmp_path / "first", *settings)
    kept = [name for name in SETTINGS if not name.startswith(("base_model", "detector.anchors"))]
    for weights in (first.run_dir, first.run_dir / "model.safetensors"):
        result = frcnn.train(
            data, out=tmp_path / f"next-{weights.name}", weights=weights, settings=parse_overrides(kept), progress=False
        )
        assert result.plan is not None
        assert result.plan.settings["base_model.rpn_channels"] == 8
        expected, used = first.detector.model.settings, result.detector.model.settings
        assert (used.base_model, used.detector.anchors) == (expected.base_model, expected.detector.anchors)


# ------------------------------------------------------------------------------------------------------------ budget


@pytest.fixture
def twenty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two epochs of `NAMED` take twenty seconds."""
    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: 20.0)


@pytest.mark.usefixtures("twenty_seconds")
@pytest.mark.parametrize(("budget", "epochs"), [(24.0, 2), (5.0, 1), (56.0, 5), (1e6, 6)])
def test_as_many_epochs_as_fit_into_the_budget(data: Path, tmp_path: Path, budget: float, epochs: int) -> None:
    """A tenth is left for other work on the machine; more than three times the usual number are not trained."""
    result = train_tiny(data, tmp_path / "run", budget=budget, plan=True)
    assert read_run_config(result.run_dir).train.epochs == epochs
    assert result.plan is not None
    assert result.plan.settings["train.epochs"] == epochs


def test_an_interrupted_run_keeps_its_epochs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the machine is slower now."""

    def interrupt(report: StepReport) -> None:
        if report.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: 20.0)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(data, tmp_path / "run", budget=56, on_step=interrupt, plan=True)
    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: pytest.fail("measured again"))
    steps: list[int] = []
    result = train_tiny(data, tmp_path / "run", budget=56, plan=True, on_step=lambda report: steps.append(report.step))
    assert steps[-1] == 5 * len(result.dataset.train)
    assert "epochs: 5" in (tmp_path / "run" / "plan.yaml").read_text()
    with pytest.raises(FileExistsError):
        train_tiny(data, tmp_path / "run", budget=56, plan=True)


@pytest.mark.parametrize("file", ["config.yaml", "plan.yaml"])
def test_a_run_with_a_budget_is_repeated_with_its_epochs(
    data: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: 20.0)
    train_tiny(data, tmp_path / "run", budget=56, plan=True)
    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: pytest.fail("measured again"))
    again = frcnn.train(data, config=tmp_path / "run" / file, out=tmp_path / "again", weights="none", progress=False)
    first, second = (read_run_config(run).train for run in (tmp_path / "run", again.run_dir))
    assert (second.epochs, second.budget) == (5, None)
    assert first == second


def test_an_interrupted_run_resumes_with_the_same_budget_or_from_its_own_settings(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not with another budget, and not with one if it had none."""

    def interrupt(report: StepReport) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "estimate_seconds", lambda *_, **__: 20.0)
    for budget, other in ((56, 50), (None, 56)):
        run = tmp_path / f"run-{budget}"
        with pytest.raises(KeyboardInterrupt):
            train_tiny(data, run, budget=budget, on_step=interrupt)
        with pytest.raises(FileExistsError, match=r"train\.budget"):
            train_tiny(data, run, budget=other)
        shutil.copytree(run, tmp_path / f"copy-{budget}")
        assert train_tiny(data, run, budget=budget).metrics is not None
        result = frcnn.train(out=tmp_path / f"copy-{budget}", resume=True, progress=False)
        assert read_run_config(result.run_dir).train.epochs == (2 if budget is None else 5)
        assert not (run / ".budget").exists()


@pytest.mark.usefixtures("twenty_seconds")
def test_a_budget_on_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "--budget", "0.5m", *named]) == 0
    assert read_run_config(tmp_path / "run").train.epochs == 2
    assert "training may take 30 s; 2 epochs would take 20 s" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", str(data), "--budget", "soon"])
    assert "'soon' must be a time above 0, such as 90s, 10m or 1.5h" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["end_to_end", "alternating"])
def test_the_estimate_counts_all_steps_of_all_phases_and_changes_nothing(
    data: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances by one second each time it is read."""
    epochs = {"end_to_end": ["train.epochs=7"], "alternating": ["train.rpn_epochs=2", "train.roi_epochs=3"]}[scheme]
    config, model = tiny_config(f"train.scheme={scheme}", *epochs), tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    records = read_split(data, "train", DataSettings())
    ticks = count()
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(ticks))
    seconds = estimate_seconds(model, config.train, records, torch.float32)
    per_step = 3  # the engine looks twice
    assert seconds == per_step * len(records) * {"end_to_end": 7, "alternating": 2 * (2 + 3)}[scheme]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("limit", "decoded"), [(0, 7), (1, 7), (10**9, 1)])
def test_the_estimate_counts_decoding_once_where_the_cache_holds_the_images(
    data: Path, limit: int, decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes 100 seconds, and the rest of a step three."""
    config, model = tiny_config("train.epochs=7"), tiny_model()
    records = read_split(data, "train", DataSettings())
    now = 0

    def tick() -> int:
        nonlocal now
        now += 1
        return now

    def decode(*arguments: Any) -> Any:
        nonlocal now
        now += 100
        return read_to_resize(*arguments)

    monkeypatch.setattr(estimate.time, "perf_counter", tick)
    monkeypatch.setattr(image_cache, "read_to_resize", decode)
    seconds = estimate_seconds(model, config.train, records, torch.float32, workers=0, cache_limit=limit)
    least = len(records) * 3 * 7
    if decoded == 7:
        assert seconds == least + len(records) * 100 * 7
    else:  # some of the three images are measured several times
        assert least <= seconds < least + len(records) * 100
