"""Model files: what is stored comes back, and what is not a model is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import SIZE, random_inputs, tiny_detector

from frcnn.nn import checkpoint
from frcnn.nn.checkpoint import FORMAT_VERSION, load, save
from frcnn.nn.detector import FasterRCNN

CLASSES = ("Apfelmus", "größe", "橙")


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    return tiny_detector("train.seed=5", "detector.results.min_score=0.01", classes=CLASSES)


@pytest.fixture
def model(detector: FasterRCNN, tmp_path: Path) -> Path:
    save(detector, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def changed(model: Path, **metadata: str) -> None:
    with safe_open(model, framework="pt") as file:
        both = {**file.metadata(), **metadata}
    save_file(load_file(model), model, both)


@torch.no_grad()
def test_what_is_loaded_detects_the_same(detector: FasterRCNN, model: Path) -> None:
    images, sizes = random_inputs(SIZE, (70, 90))
    expected = detector(images, sizes, sizes * 2)
    for path in (model, str(model), model.parent):
        loaded = load(path, device="cpu")
        for one, other in zip(loaded(images, sizes, sizes * 2), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert loaded.classes == CLASSES
    assert loaded.config == detector.config
    assert not loaded.training


def test_the_file_describes_itself(detector: FasterRCNN, model: Path) -> None:
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(detector.state_dict())
    assert metadata["format"] == "frcnn"
    assert metadata["format_version"] == str(FORMAT_VERSION)
    assert json.loads(metadata["classes"]) == list(CLASSES)
    config = json.loads(metadata["config"])
    assert (config["train"]["seed"], config["detector"]["results"]["min_score"]) == (5, 0.01)


def test_a_missing_model_is_named_with_a_way_out(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"safetensors: no trained model there; `frcnn train DATA --out"):
            load(path)


def test_a_newer_format_is_named(model: Path) -> None:
    changed(model, format_version="9")
    with pytest.raises(ValueError, match=r"model\.safetensors: has format 9, .* up to 1; install a newer frcnn"):
        load(model)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_damaged_file_is_named(model: Path, part: float) -> None:
    content = model.read_bytes()
    model.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, or not a model file"):
        load(model)


def test_weights_of_a_base_model_are_no_model(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(ValueError, match=r"alexnet\.safetensors: not a model of frcnn; .* `frcnn train --weights`"):
        load(tmp_path / "alexnet.safetensors")


def test_weights_that_do_not_fit_the_settings_are_named(model: Path) -> None:
    changed(model, classes=json.dumps(["one class only"]))
    with pytest.raises(ValueError, match=r"model\.safetensors: the weights do not fit the settings stored with them"):
        load(model)


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_no_other(
    detector: FasterRCNN, model: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = model.read_bytes()

    def write_half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(before[:1000])
        raise error

    monkeypatch.setattr(checkpoint, "save_file", write_half)
    with pytest.raises(type(error)):
        save(detector, model)
    assert model.read_bytes() == before
    assert list(model.parent.iterdir()) == [model]


@pytest.mark.parametrize("missing", ["format_version", "classes", "config"])
def test_a_file_without_its_description_is_named(tmp_path: Path, missing: str) -> None:
    metadata = {"format": "frcnn", "format_version": "1", "classes": "[]", "config": "{}"}
    del metadata[missing]
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata)
    with pytest.raises(ValueError, match=rf"model\.safetensors: damaged, .*{missing}"):
        load(file)
