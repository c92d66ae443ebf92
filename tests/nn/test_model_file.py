"""Model files: what is stored comes back, and what is not a model is refused."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import SIZE, random_inputs, tiny_model, train_tiny, write_tiny

from frcnn.config import make_config
from frcnn.nn import model_file
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import FORMAT_VERSION, load_model, save_model, store_threshold

CLASSES = ("Apfelmus", "größe", "橙")


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model("train.precision=bf16", "detector.results.score_threshold=0.01", classes=CLASSES)


@pytest.fixture
def file(model: FasterRCNN, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def changed(file: Path, **metadata: str) -> None:
    with safe_open(file, framework="pt") as opened:
        both = {**opened.metadata(), **metadata}
    save_file(load_file(file), file, both)


@torch.no_grad()
def test_what_is_loaded_detects_the_same(model: FasterRCNN, file: Path) -> None:
    images, sizes = random_inputs(SIZE, (70, 90))
    expected = model(images, sizes, sizes * 2)
    for path in (file, str(file), file.parent):
        loaded = load_model(path, device="cpu")
        for one, other in zip(loaded(images, sizes, sizes * 2), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert loaded.classes == CLASSES
    assert loaded.settings == model.settings
    assert not loaded.training


def test_the_file_describes_itself(model: FasterRCNN, file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        assert set(opened.keys()) == set(model.state_dict())
    assert metadata["format"] == "frcnn"
    assert metadata["format_version"] == str(FORMAT_VERSION)
    assert json.loads(metadata["classes"]) == list(CLASSES)
    settings = json.loads(metadata["settings"])
    assert (settings["precision"], settings["detector"]["results"]["score_threshold"]) == ("bf16", 0.01)


def test_a_model_file_says_nothing_of_the_machine_that_it_was_trained_on(tmp_path: Path) -> None:
    """Neither where the data is, nor where the weights were."""
    secret = tmp_path / "Jane Doe's private photos"
    data = write_tiny(secret / "data")
    save_model(tiny_model(classes=("red",)), secret / "start.safetensors")
    run = train_tiny(data, secret / "run", "train.smoke_test=true", weights=secret / "start.safetensors").run_dir
    content = (run / "model.safetensors").read_bytes()
    for part in (*secret.parts[1:], "start.safetensors"):
        assert part.encode() not in content
        assert json.dumps(part)[1:-1].encode() not in content


def test_a_missing_model_is_named_with_a_way_out(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"safetensors: no trained model there; `frcnn train DATA --out"):
            load_model(path)


def test_a_newer_format_is_named(file: Path) -> None:
    changed(file, format_version="9")
    with pytest.raises(ValueError, match=r"model\.safetensors: has format 9, .* reads format 2; install a newer frcnn"):
        load_model(file)
    changed(file, format_version="1")
    with pytest.raises(ValueError, match=r"model\.safetensors: has format 1 of an older frcnn, .* 2; train again"):
        load_model(file)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_damaged_file_is_named(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, or not a model file"):
        load_model(file)


def test_weights_of_a_base_model_are_no_model(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "alexnet.safetensors")
    with pytest.raises(ValueError, match=r"alexnet\.safetensors: not a model of frcnn; .* `frcnn train --weights`"):
        load_model(tmp_path / "alexnet.safetensors")


def test_weights_that_do_not_fit_the_settings_are_named(file: Path) -> None:
    changed(file, classes=json.dumps(["one class only"]))
    with pytest.raises(ValueError, match=r"model\.safetensors: the weights do not fit the settings stored with them"):
        load_model(file)


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_no_other(
    model: FasterRCNN, file: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = file.read_bytes()

    def write_half(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(before[:1000])
        raise error

    monkeypatch.setattr(model_file, "save_file", write_half)
    with pytest.raises(type(error)):
        save_model(model, file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("missing", ["format_version", "classes", "settings"])
def test_a_file_without_its_description_is_named(tmp_path: Path, missing: str) -> None:
    metadata = {"format": "frcnn", "format_version": str(FORMAT_VERSION), "classes": "[]", "settings": "{}"}
    del metadata[missing]
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata)
    with pytest.raises(ValueError, match=rf"model\.safetensors: damaged, .*{missing}"):
        load_model(file)


@pytest.mark.parametrize(
    "classes",
    [
        "7",
        "null",
        '[["a"]]',
        '["a", "a"]',
        '[""]',
        "[]",
        '{"a": 1}',
        json.dumps(["x" * 1001]),
        json.dumps(["a\nb"]),
        "[" * 100_000,
    ],
    ids=["number", "null", "nested", "twice", "empty name", "none", "object", "long", "two lines", "deep"],
)
def test_untrusted_classes(classes: str, file: Path) -> None:
    changed(file, classes=classes)
    with pytest.raises(
        ValueError, match=r"model\.safetensors: damaged, (its classes are|its description cannot)"
    ) as error:
        load_model(file)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_model.fc_channels", [1_000_000_000]),
        ("base_model.fc_channels", [8] * 1000),
        ("base_model.rpn_convs", 1_000_000),
        ("base_model.roi_size", 10_000),
        ("detector.anchors.scales", [1.0] * 1_000_000),
        ("detector.results.max_detections", 10**12),
        ("detector.test_proposals.post_nms_top_n", 10**12),
        ("detector.image.longer_side", 10**30),
        ("detector.image.tile", 10**9),
        ("detector", None),
        ("detector", "text"),
        ("base_model.mean", [float("inf")] * 3),
    ],
)
def test_untrusted_settings(key: str, value: object, file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        settings = json.loads(opened.metadata()["settings"])
    *groups, last = key.split(".")
    inner = settings
    for group in groups:
        inner = inner[group]
    inner[last] = value
    changed(file, settings=json.dumps(settings))
    with pytest.raises(ValueError, match=r"model\.safetensors: .*setting") as error:
        load_model(file)
    assert len(str(error.value)) < 3000


@pytest.mark.parametrize(
    "settings",
    ["7", "null", '"text"', "[]", "[" * 900 + "]" * 900, '{"detector": ' * 900 + "7" + "}" * 900, "[" * 100_000],
    ids=["number", "null", "text", "list", "nested lists", "nested objects", "deep"],
)
def test_settings_that_are_no_settings(settings: str, file: Path) -> None:
    changed(file, settings=settings)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*(setting|nested too deeply)") as error:
        load_model(file)
    assert len(str(error.value)) < 10_000


@pytest.mark.parametrize("image", [{"shorter_side": 32768, "longer_side": 32768}, {"width": 32768, "height": 8193}])
def test_an_input_that_takes_too_much_memory(image: dict[str, int], file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        settings = json.loads(opened.metadata()["settings"])
    settings["detector"]["image"] |= image | {"resize": "fit" if "width" in image else "shorter_side"}
    changed(file, settings=json.dumps(settings))
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged, its input is 1 x 32,768 x .* 268,435,456"):
        load_model(file)


@pytest.mark.parametrize("threshold", [50, -0.1, float("nan")])
def test_a_threshold_that_cannot_be_loaded_is_not_stored(threshold: float, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        store_threshold(file, threshold)
    assert file.read_bytes() == before


def test_a_class_that_cannot_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors: the class 'a\\nb' cannot be stored; rename it"):
        save_model(tiny_model(classes=("a\nb", "c")), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_shapes_are_compared_before_memory_is_taken(file: Path) -> None:
    """One changed word of the settings describes layers of 16 GB."""
    with safe_open(file, framework="pt") as opened:
        settings = json.loads(opened.metadata()["settings"])
    settings["base_model"]["fc_channels"] = [65_536, 65_536]
    changed(file, settings=json.dumps(settings))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"the weights do not fit .*: roi_head\.\S+ is \(16.*, not \(65536"):
        load_model(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(value: float, model: FasterRCNN, file: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    for name in ("rpn.objectness.bias", "roi_head.logits.weight", next(iter(model.state_dict()))):
        tensors = load_file(file)
        tensors[name].view(-1)[0] = value
        save_file(tensors, file.with_name("bad.safetensors"), metadata)
        with pytest.raises(ValueError, match=rf"bad\.safetensors: damaged, {name} has infinite or NaN values"):
            load_model(file.with_name("bad.safetensors"))


def test_a_classifier_that_computes_while_it_is_built(tmp_path: Path) -> None:
    """RegNet cannot be built without weights."""
    config = make_config(base_model="regnet_y_800mf", overrides={"base_model.fc_channels": [8]})
    saved = build_model(config.model, CLASSES)
    save_model(saved, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, device="cpu")
    torch.testing.assert_close(loaded.state_dict(), saved.state_dict(), rtol=0, atol=0)


def test_tables_that_no_file_holds_are_computed(model: FasterRCNN, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some layers of timm compute them where they are made."""
    real = model_file.empty_model

    def with_table(*arguments: Any) -> FasterRCNN:
        made = real(*arguments)
        made.rpn.register_buffer("table", torch.ones(2, device="meta"), persistent=False)
        return made

    monkeypatch.setattr(model_file, "empty_model", with_table)
    loaded = load_model(file)
    assert not any(tensor.is_meta for tensor in (*loaded.buffers(), *loaded.parameters()))
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
