"""From a folder of data to a RUN folder: what is in it, and what is never overwritten."""

import json
from pathlib import Path

import pytest
import torch
from tiny import CLASSES, draw_image, tiny_config, train_tiny, trained_run, write_annotated, write_tiny

from frcnn.config import merge
from frcnn.evaluation.evaluate import evaluate
from frcnn.nn.checkpoint import load
from frcnn.training.folder import run_folder
from frcnn.training.loop import StepReport
from frcnn.training.run import train


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
    taken_back = merge(file=run / "config.yaml")
    assert taken_back == load(run).config
    assert taken_back.data.path == str(run.parent / "data")
    assert taken_back.base_model.weights == "none"
    sources = {
        "data": taken_back.data.model_copy(update={"path": None}),
        "base_model": taken_back.base_model.model_copy(update={"weights": None}),
    }
    assert taken_back.model_copy(update=sources) == tiny_config()


def test_a_run_can_be_repeated_from_its_settings_alone(run: Path, tmp_path: Path) -> None:
    """The same seed, so the same weights; no folder is named, the settings know it."""
    _, again = train(config=run / "config.yaml", out=tmp_path / "again", weights="none", offline=True)
    first, second = load(run).state_dict(), load(again).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (again / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_the_detector_comes_back_as_it_is_stored(data: Path) -> None:
    lines: list[str] = []
    detector, run = train_tiny(data, data.parent / "run", "train.epochs=1", log=lines.append)
    assert run == data.parent / "run"
    assert detector.classes == CLASSES
    torch.testing.assert_close(load(run).state_dict(), detector.state_dict(), rtol=0, atol=0)
    assert "base model efficientnet_lite0: starts from random weights" in lines
    assert "data: 5 training images, 8 objects, 2 classes" in lines


def test_steps_are_reported_as_they_are_done(data: Path) -> None:
    reports: list[StepReport] = []
    train_tiny(data, data.parent / "run", "train.fast=true", on_step=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_what_exists_is_not_overwritten(data: Path, occupied: str) -> None:
    out = data.parent / "run"
    mine = out / "mine.txt" if occupied == "folder" else out
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("keep me")
    with pytest.raises(FileExistsError, match=r"run: exists and is not overwritten; choose another folder with --out"):
        train_tiny(data, out)
    assert mine.read_text() == "keep me"
    assert occupied == "file" or files(out) == {"mine.txt"}


def test_an_empty_folder_is_used(data: Path) -> None:
    (data.parent / "run").mkdir()
    train_tiny(data, data.parent / "run", "train.fast=true", "data.num_train_images=1")
    assert "model.safetensors" in files(data.parent / "run")


def test_runs_are_numbered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    fast = ("train.fast=true", "data.num_train_images=1")
    assert [train_tiny(Path("data"), None, *fast)[1] for _ in range(2)] == [
        Path("runs/data-efficientnet_lite0"),
        Path("runs/data-efficientnet_lite0-2"),
    ]
    assert train_tiny(Path("data"), None, *fast, "data.name=shelf")[1] == Path("runs/shelf-efficientnet_lite0")


def test_the_first_free_number_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for taken in ("demo", "demo-2", "demo-4"):
        (tmp_path / "runs" / taken).mkdir(parents=True)
    assert run_folder(None, "demo") == Path("runs/demo-3")
    assert run_folder("elsewhere", "demo") == Path("elsewhere")


def test_a_trained_run_is_kept_if_asked(data: Path) -> None:
    lines: list[str] = []
    fast = ("train.fast=true", "data.num_train_images=1", "train.skip_if_trained=true")
    _, run = train_tiny(data, data.parent / "run", *fast)
    before = {name: (run / name).stat().st_mtime_ns for name in files(run)}
    detector, again = train_tiny(data, run, *fast, log=lines.append)
    assert again == run
    assert {name: (run / name).stat().st_mtime_ns for name in files(run)} == before
    torch.testing.assert_close(detector.state_dict(), load(run).state_dict(), rtol=0, atol=0)
    assert any("trained model already; training is skipped" in line for line in lines)


def test_an_interrupted_training_leaves_no_model_and_no_half_written_file(data: Path) -> None:
    def interrupt(report: StepReport) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(data, data.parent / "run", on_step=interrupt)
    assert files(data.parent / "run") == {".unfinished", "config.yaml", "metrics.jsonl"}
    assert len((data.parent / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_deterministic_trainings_are_bit_equal_whatever_reads_the_images(data: Path) -> None:
    """Two runs, the same seed; with dropout, and 0 or 2 data workers."""
    settings = ("train.deterministic=true", "base_model.dropout=0.5")
    was_on: list[bool] = []
    watch = {"on_step": lambda report: was_on.append(torch.are_deterministic_algorithms_enabled())}
    first, _ = train_tiny(data, data.parent / "first", *settings, "data.workers=0", **watch)
    assert was_on
    assert all(was_on)
    second, _ = train_tiny(data, data.parent / "second", *settings, "data.workers=2")
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
    detector, _ = train_tiny(data, tmp_path / "run", "train.fast=true", on_step=lambda r: steps.append(r.steps))
    assert steps == [8] * 8
    assert detector.classes == ("blue", "red")
    assert evaluate(detector).images == 8


def failing(**arguments: object) -> dict[str, object]:
    return arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (failing(data=None), r"no data: name a folder, or set data\.path"),
        (failing(weights="nowhere.pth"), r"nowhere\.pth: no such weights file"),
        (failing(settings=["train.epoch=3"]), r"unknown setting 'train\.epoch'\. Did you mean 'train\.epochs'\?"),
        (failing(settings=["train.epochs=0"]), r"train\.epochs"),
        (failing(base_model="alexnett"), r"unknown base model 'alexnett'\. Did you mean 'alexnet'\?"),
        (failing(config="nowhere.yaml"), r"nowhere\.yaml: no such config file"),
        (failing(settings=["base_model.last_conv_node=blocks.44"]), r"there is no node 'blocks\.44'"),
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
    with pytest.raises(ValueError, match="device cuda: this machine has no CUDA card"):
        train_tiny(data, data.parent / "run", "train.device=cuda")
    assert not (data.parent / "run").exists()
