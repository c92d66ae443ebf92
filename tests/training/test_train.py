"""From a folder of data to a run directory: its files, and what is never overwritten."""

import json
import os
from pathlib import Path

import pytest
import torch
from tiny import CLASSES, SETTINGS, draw_image, tiny_config, train_tiny, trained_run, write_annotated, write_tiny

from frcnn.cli.training_log import TrainingLog
from frcnn.config import parse_overrides, read_run_config
from frcnn.nn.model_file import load_model
from frcnn.training import progress
from frcnn.training.reports import StepReport
from frcnn.training.run_dir import new_run_dir
from frcnn.training.train import train


@pytest.fixture(scope="module")
def run() -> Path:
    return trained_run()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data")


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_run_holds_settings_metrics_and_model(run: Path) -> None:
    assert files(run) >= {"config.yaml", "metrics.jsonl", "model.safetensors"}
    assert not [name for name in files(run) if "partial" in name]


def test_metrics_are_a_line_of_json_for_each_step(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))  # 5 images, 2 epochs
    assert set(lines[0]) == {"event", *StepReport._fields}
    assert {line["event"] for line in lines} == {"step"}
    assert set(lines[0]["losses"]) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}


def test_the_settings_are_taken_back_and_equal(run: Path) -> None:
    taken_back = read_run_config(run)
    assert taken_back.model == load_model(run).settings
    assert taken_back.data.path == str(run.parent / "data")
    assert taken_back.base_model.weights == "none"
    sources = {
        "data": taken_back.data.model_copy(update={"path": None}),
        "base_model": taken_back.base_model.model_copy(update={"weights": None}),
    }
    assert taken_back.model_copy(update=sources) == tiny_config()


def test_a_run_can_be_repeated_from_its_settings_alone(run: Path, tmp_path: Path) -> None:
    """The same seed, so the same weights; no folder is named, the settings know it."""
    again = train(config=run / "config.yaml", out=tmp_path / "again", weights="none", offline=True).run_dir
    first, second = load_model(run).state_dict(), load_model(again).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (again / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_the_detector_comes_back_as_it_is_stored(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = train_tiny(data, data.parent / "run", "train.epochs=1", callbacks=[TrainingLog()])
    model, run = result.detector.model, result.run_dir
    assert run == data.parent / "run"
    assert result.trained
    assert model.classes == CLASSES
    torch.testing.assert_close(load_model(run).state_dict(), model.state_dict(), rtol=0, atol=0)
    lines = capsys.readouterr().out.splitlines()
    assert "base model efficientnet_lite0: random weights" in lines
    assert "splits: train 5 images, 8 objects; test 2 images, 4 objects" in lines
    assert "classes: blue, red" in lines


def test_arguments_win_over_settings_and_both_over_the_preset(data: Path) -> None:
    settings = {"train.epochs": 3, "train.momentum": 0.8, "SIGMA_RPN_L1": 2.0}
    result = train_tiny(
        data, data.parent / "run", "train.smoke_test=true", epochs=1, lr=0.005, split=None, patience=None
    )
    first = read_run_config(result.run_dir).train
    assert (first.epochs, first.lr, first.momentum) == (1, (0.005,), 0.9)
    few = {**parse_overrides(SETTINGS), "train.smoke_test": True, "data.num_train_images": 1}
    second = train(data, out=data.parent / "more", weights="none", epochs=1, settings=few | settings, offline=True)
    config = read_run_config(second.run_dir).train
    assert (config.epochs, config.momentum, config.rpn.sigma) == (1, 0.8, 2.0)


def test_the_progress_bar_counts_steps(data: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(progress, "is_interactive", lambda: True)
    train_tiny(data, data.parent / "run", "train.smoke_test=true")
    bars = capsys.readouterr().err
    assert "5/5" in bars
    assert "end to end, epoch 1" in bars
    assert "loss" in bars
    train_tiny(data, data.parent / "silent", "train.smoke_test=true", progress=False)
    assert capsys.readouterr().err == ""


def test_steps_are_reported_as_they_are_done(data: Path) -> None:
    reports: list[StepReport] = []
    train_tiny(data, data.parent / "run", "train.smoke_test=true", on_step=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_what_exists_is_not_overwritten(data: Path, occupied: str) -> None:
    out = data.parent / "run"
    mine = out / "mine.txt" if occupied == "folder" else out
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("keep me")
    with pytest.raises(
        FileExistsError, match=r"run: exists and is not overwritten; choose another run directory \(out=, --out\)"
    ):
        train_tiny(data, out)
    assert mine.read_text() == "keep me"
    assert occupied == "file" or files(out) == {"mine.txt"}


def test_an_empty_folder_is_used(data: Path) -> None:
    (data.parent / "run").mkdir()
    train_tiny(data, data.parent / "run", "train.smoke_test=true", "data.num_train_images=1")
    assert "model.safetensors" in files(data.parent / "run")


def test_runs_are_numbered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    fast = ("train.smoke_test=true", "data.num_train_images=1")
    assert [train_tiny(Path("data"), None, *fast).run_dir for _ in range(2)] == [
        Path("runs/data-efficientnet_lite0-smoke-test"),
        Path("runs/data-efficientnet_lite0-smoke-test-2"),
    ]
    shelf = train_tiny(Path("data"), None, "data.num_train_images=1", "data.name=shelf", epochs=1).run_dir
    assert shelf == Path("runs/shelf-efficientnet_lite0")


def test_the_first_free_number_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for taken in ("demo", "demo-2", "demo-4"):
        (tmp_path / "runs" / taken).mkdir(parents=True)
    assert new_run_dir(None, "demo") == Path("runs/demo-3")
    assert new_run_dir("elsewhere", "demo") == Path("elsewhere")


def test_a_trained_run_is_kept_if_asked(data: Path) -> None:
    fast = ("train.smoke_test=true", "data.num_train_images=1", "train.skip_existing=true")
    run = train_tiny(data, data.parent / "run", *fast).run_dir
    before = {name: (run / name).stat().st_mtime_ns for name in files(run)}
    result = train_tiny(data, run, *fast)
    assert (result.run_dir, result.trained) == (run, False)
    assert {name for name in files(run) if (run / name).stat().st_mtime_ns != before[name]} == {"metrics.json"}
    torch.testing.assert_close(result.detector.model.state_dict(), load_model(run).state_dict(), rtol=0, atol=0)


def test_problems_of_images_whose_names_are_not_utf8_are_reported(data: Path) -> None:
    image = data / "positive" / os.fsdecode(b"\xff.png")
    write_annotated(image, [("red", (6, 8, 46, 500))])  # the box ends outside of the image
    run = train_tiny(data, data.parent / "run", "train.smoke_test=true").run_dir
    problems = json.loads((run / "data_report.json").read_text(encoding="utf-8"))["problems"]
    assert [each["path"] for each in problems] == [f"positive/{image.name}"]


def test_an_interrupted_training_leaves_no_model_and_no_half_written_file(data: Path) -> None:
    def interrupt(report: StepReport) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(data, data.parent / "run", on_step=interrupt)
    assert files(data.parent / "run") == {
        ".unfinished",
        "config.yaml",
        "data_report.json",
        "local.yaml",
        "metrics.jsonl",
    }
    assert len((data.parent / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_deterministic_trainings_are_bit_equal_whatever_reads_the_images(data: Path) -> None:
    """Two runs, the same seed; with dropout, and 0 or 2 data workers."""
    settings = ("train.deterministic=true", "base_model.dropout=0.5")
    was_on: list[bool] = []
    watch = {"on_step": lambda report: was_on.append(torch.are_deterministic_algorithms_enabled())}
    first = train_tiny(data, data.parent / "first", *settings, "data.workers=0", **watch).detector.model
    assert was_on
    assert all(was_on)
    second = train_tiny(data, data.parent / "second", *settings, "data.workers=2").detector.model
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert not torch.are_deterministic_algorithms_enabled()


def test_fast_takes_a_few_images_and_knows_all_classes(tmp_path: Path) -> None:
    """More images than it takes; the last class is in the last image only."""
    data = tmp_path / "many"
    for number in range(12):
        objects = [("blue" if number == 11 else "red", (10, 10, 60, 60))]
        write_annotated(data / "positive" / f"{number:02}.png", objects, seed=number)
        write_annotated(data / "testImages" / f"{number:02}.png", objects, seed=number)
    (data / "negative").mkdir()
    for number in range(3):
        draw_image([], seed=number).save(data / "negative" / f"{number}.png")
    steps: list[int] = []
    result = train_tiny(data, tmp_path / "run", "train.smoke_test=true", on_step=lambda r: steps.append(r.steps))
    assert steps == [8] * 8
    assert result.detector.classes == ("blue", "red")
    assert result.metrics is not None
    assert result.metrics.images == 8


def failing(**arguments: object) -> dict[str, object]:
    return arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (failing(data=None), r"no data: name a folder, or set data\.path"),
        (failing(weights="nowhere.pth"), r"nowhere\.pth: no such weights file"),
        (failing(settings={"train.epoch": 3}), r"unknown setting 'train\.epoch'\. Did you mean 'train\.epochs'\?"),
        (failing(epochs=0), r"train\.epochs"),
        (failing(base_model="alexnett"), r"unknown base model 'alexnett'\. Did you mean 'alexnet'\?"),
        (failing(config="nowhere.yaml"), r"nowhere\.yaml: no such config file"),
        (failing(settings={"base_model.last_conv_node": ["blocks.44"]}), r"there is no node 'blocks\.44'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(data.parent)
    defaults = {"data": data, "out": data.parent / "run", "weights": "none", "offline": True}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(**(defaults | arguments))  # type: ignore[arg-type]
    assert not (data.parent / "run").exists()
    assert {path.name for path in data.parent.iterdir()} == {"data"}


def test_a_device_that_is_not_there_is_said_before_anything_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="PyTorch finds no CUDA GPU"):
        train_tiny(data, data.parent / "run", "train.device=cuda")
    assert not (data.parent / "run").exists()
