"""A run directory can be passed on: only local.yaml names folders, users or hosts of the machine that made it."""

import getpass
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_model, train_tiny, write_tiny

import frcnn
from frcnn.cli import main
from frcnn.config import read_run_config
from frcnn.nn.model_file import save_model
from frcnn.run_files import LOCAL_FILE
from frcnn.training.callbacks import Callback
from frcnn.training.reports import StepReport
from frcnn.training.state import TrainingState

MARK = "home-of-jane-doe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, weights and a run directory in a folder with a marked name."""
    folder = tmp_path_factory.mktemp(MARK)
    write_tiny(folder / "data")
    save_model(tiny_model("base_model.freeze_before=null"), folder / "weights.safetensors")
    settings = ("train.logger=tensorboard", "train.validate_every=1", "data.val_fraction=0.3", "train.epochs=2")
    if shutil.which("dot"):
        settings += ("train.draw_graph=true", "train.graph_type=pdf")
    train_tiny(folder / "data", folder / "run", *settings, weights=folder / "weights.safetensors")
    return folder


def contents(file: Path) -> Iterator[bytes]:
    """The bytes of a file, and of the files in it if it is an archive."""
    yield file.read_bytes()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            yield from map(archive.read, archive.namelist())


def private_files(run_dir: Path) -> dict[str, str]:
    """The files that name this machine, and what they name."""
    words = {MARK, str(Path(frcnn.__file__).parent), str(Path(torch.__file__).parent), str(Path.cwd())}
    words |= {word for word in (socket.gethostname(), getpass.getuser(), str(Path.home())) if len(word) > 6}
    return {
        str(file.relative_to(run_dir)): word
        for file in run_dir.rglob("*")
        if file.is_file()
        for word in words
        if word in str(file.relative_to(run_dir)) or any(word.encode() in content for content in contents(file))
    }


def test_only_one_file_of_a_run_directory_names_this_machine(folder: Path) -> None:
    assert main(["evaluate", str(folder / "run")]) == 0
    for target in ("onnx", "openvino", "torch"):
        assert main(["export", str(folder / "run"), "--to", target, "--image-size", "96x128"]) == 0
    names = {file.name for file in (folder / "run").iterdir()}
    expected = {
        "config.yaml",
        "metrics.jsonl",
        "curves.png",
        "metrics.json",
        "model.safetensors",
        "last.safetensors",
    }
    assert names >= expected | {"tensorboard", "images", "model.onnx", "model.xml", "model.pt2"}
    assert names >= {f"model.{ending}.verification.json" for ending in ("onnx", "xml", "pt2")}
    assert private_files(folder / "run") == {LOCAL_FILE: MARK}
    text = (folder / "run" / LOCAL_FILE).read_text()
    assert text.startswith("# Paths on this machine. Do not pass on this file")


def test_the_files_of_an_interrupted_run_name_no_one_either(folder: Path) -> None:
    class Spoil(Callback):
        def on_step(self, report: StepReport, state: TrainingState) -> None:
            if report.step == 3:
                state.model.roi_head.logits.bias.data.fill_(torch.nan)

    with pytest.raises(FloatingPointError, match=MARK):
        train_tiny(folder / "data", folder / "failed", "train.checkpoint_seconds=0", callbacks=[Spoil()])
    assert {file.name for file in (folder / "failed").iterdir()} >= {"checkpoint.pt", "failed-step.pt"}
    assert private_files(folder / "failed") == {LOCAL_FILE: MARK}


def test_a_run_directory_works_without_its_local_file(folder: Path, tmp_path: Path) -> None:
    """As on the machine of someone who was given it."""
    passed_on = shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns(LOCAL_FILE))
    config = read_run_config(passed_on)
    assert config.data.path is None
    assert config.base_model.weights == "weights.safetensors"
    with pytest.raises(ValueError, match="--data"):
        frcnn.load(passed_on).evaluate()
    moved = frcnn.load(passed_on).evaluate(folder / "data")
    assert moved.per_class == frcnn.load(folder / "run").evaluate().per_class


def test_the_local_file_gives_the_paths_back(folder: Path) -> None:
    local = yaml.safe_load((folder / "run" / LOCAL_FILE).read_text())
    assert local == {"data.path": str(folder / "data"), "base_model.weights": str(folder / "weights.safetensors")}
    config = read_run_config(folder / "run")
    assert config.data.path == str(folder / "data")
    assert config.base_model.weights == str(folder / "weights.safetensors")
