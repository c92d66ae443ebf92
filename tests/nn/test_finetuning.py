"""Starting from a whole detector: torchvision's file, the one trained on COCO, or one of ours, for other classes."""

import json
from pathlib import Path

import pytest
import torch
from tiny import SETTINGS, draw_image, no_connections, random_inputs, tiny_model, train_tiny, write_tiny
from torch import Tensor
from torchvision.models import detection

from frcnn.cli import main
from frcnn.config import make_config, parse_overrides
from frcnn.nn.build import build_model
from frcnn.nn.migrate.from_torchvision import from_torchvision
from frcnn.nn.model_file import load_model, save_model
from frcnn.nn.torchvision_keys import DETECTOR_KEY, coco_classes, from_torchvision_keys
from frcnn.nn.weights import DetectorWeights, coco_url, find_weights
from frcnn.training.callbacks import Callback
from frcnn.training.reports import InitialWeights, StartReport
from frcnn.training.state import TrainingState

MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = detection.__dict__[MOBILE](weights=None, weights_backbone=None).state_dict()
    return state


@pytest.fixture
def coco_file(theirs: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the download would be in the cache."""
    monkeypatch.setenv("FRCNN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    file = tmp_path / "cache" / str(coco_url(make_config(base_model=MOBILE).base_model)).rsplit("/", 1)[-1]
    torch.save(theirs, file)
    return file


# ------------------------------------------------------------------------------------------------------ classes by name


def test_rows_of_classes_that_both_know_are_kept_and_all_others_are_newly_initialized() -> None:
    old = tiny_model(classes=("cat", "dog", "cow"), seed=1)
    weights = DetectorWeights(old.state_dict(), old.classes, "old.safetensors")
    torch.manual_seed(2)
    untouched = build_model(old.settings, ("dog", "bird", "cat"))
    torch.manual_seed(2)
    new = build_model(old.settings, ("dog", "bird", "cat"), weights)
    for layer, rows in (("logits", 1), ("deltas", 4)):
        for kind in ("weight", "bias"):
            before, fresh, after = (
                getattr(getattr(one.roi_head, layer), kind).unflatten(0, (-1, rows)) for one in (old, untouched, new)
            )
            for label, known in ((0, 0), (1, 2), (3, 1)):  # background, dog, cat
                torch.testing.assert_close(after[label], before[known], rtol=0, atol=0)
            torch.testing.assert_close(after[2], fresh[2], rtol=0, atol=0)  # bird
    torch.testing.assert_close(new.rpn.objectness.weight, old.rpn.objectness.weight, rtol=0, atol=0)
    assert new.newly_initialized == {
        f"roi_head.{layer}.{kind}" for layer in ("logits", "deltas") for kind in ("weight", "bias")
    }


@torch.no_grad()
def test_with_the_same_classes_it_is_the_same_detector(tmp_path: Path) -> None:
    old = tiny_model(seed=1)
    save_model(old, tmp_path / "model.safetensors")
    weights = find_weights(old.settings.base_model, str(tmp_path), offline=True)
    new = build_model(old.settings, old.classes, weights)
    images, sizes = random_inputs((96, 128))
    for one, other in zip(old(images, sizes, sizes), new(images, sizes, sizes), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert new.newly_initialized == frozenset()


def test_weights_of_another_detector_are_an_error() -> None:
    old = tiny_model("base_model.rpn_channels=8", seed=1)
    weights = DetectorWeights(old.state_dict(), old.classes, "old.safetensors")
    with pytest.raises(
        ValueError,
        match=r"old\.safetensors: weights of another detector: rpn\.convs\.0\.weight is .*, not .*choose its",
    ):
        build_model(tiny_model().settings, old.classes, weights)
    lacking = DetectorWeights({}, old.classes, "old.safetensors")
    with pytest.raises(ValueError, match=r"another detector: they lack backbone\."):
        build_model(old.settings, old.classes, lacking)


def test_training_says_which_classes_are_kept(tmp_path: Path) -> None:
    old = tiny_model(classes=("red", "green"))
    save_model(old, tmp_path / "old.safetensors")
    seen: list[InitialWeights] = []

    class Start(Callback):
        def on_start(self, report: StartReport, state: TrainingState) -> None:
            seen.append(report.weights)

    train_tiny(write_tiny(tmp_path / "data"), tmp_path / "none", "train.smoke_test=true", callbacks=[Start()])

    from frcnn.training.train import train

    train(
        tmp_path / "data",
        out=tmp_path / "run",
        weights=str(tmp_path / "old.safetensors"),
        settings=parse_overrides([*SETTINGS, "train.smoke_test=true"]),
        offline=True,
        callbacks=[Start()],
    )
    assert seen == [InitialWeights(None, None, ()), InitialWeights(str(tmp_path / "old.safetensors"), ("red",), ())]


# ------------------------------------------------------------------------------------------------- torchvision's files


def test_every_key_of_torchvisions_has_its_own_key_here(theirs: dict[str, Tensor]) -> None:
    ours = from_torchvision_keys(theirs)
    expected = from_torchvision(theirs, MOBILE).state_dict()
    assert len(ours) == len(theirs)
    assert set(ours) == set(expected)


@torch.no_grad()
def test_files_from_before_2022_name_some_layers_without_their_number(theirs: dict[str, Tensor]) -> None:
    def older(key: str) -> str:
        for new, old in ((".conv.0.0.", ".conv."), ("blocks.0.0.", "blocks.0."), ("blocks.1.0.", "blocks.1.")):
            if key.startswith(("rpn.head", "backbone.fpn")):
                key = key.replace(new, old)
        return key

    old_style = {older(key): tensor for key, tensor in theirs.items()}
    assert sum(key not in theirs for key in old_style) == 2 + 4 * 2
    actual, expected = (from_torchvision(state, MOBILE).state_dict() for state in (old_style, theirs))
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=0, atol=0)


def test_a_file_of_torchvisions_is_known_by_what_is_in_it(coco_file: Path) -> None:
    weights = find_weights(make_config(base_model=MOBILE).base_model, str(coco_file), offline=True)
    assert isinstance(weights, DetectorWeights)
    assert weights.classes[:3] == ("person", "bicycle", "car")
    assert weights.classes[11] == "unused 12"
    assert weights.classes[89] == "toothbrush"
    assert len(set(weights.classes)) == 90


def test_a_file_that_does_not_say_its_classes_keeps_all_but_their_rows(
    theirs: dict[str, Tensor], tmp_path: Path
) -> None:
    """Fine-tuned by someone with torchvision: three classes, whose names are not in the file."""
    few = {
        key: tensor[: (4 if "cls_score" in key else 16)] if "box_predictor" in key else tensor
        for key, tensor in theirs.items()
    }
    torch.save(few, tmp_path / "few.pth")
    weights = find_weights(make_config(base_model=MOBILE).base_model, str(tmp_path / "few.pth"), offline=True)
    assert isinstance(weights, DetectorWeights)
    assert weights.classes == ("label 1", "label 2", "label 3")
    detector = build_model(make_config(base_model=MOBILE).model, ["dog"], weights)
    expected = from_torchvision(few, MOBILE, classes=["a", "b", "c"]).state_dict()
    for name, tensor in detector.state_dict().items():
        if not name.startswith(("roi_head.logits", "roi_head.deltas")):
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_messages_name_the_error_in_torchvisions_weights(theirs: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=rf"not one of a torchvision Faster R-CNN: it lacks {DETECTOR_KEY}"):
        from_torchvision({}, MOBILE)
    with pytest.raises(ValueError, match=r"classes: 2 names, but the weights have 90 classes"):
        from_torchvision(theirs, MOBILE, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"unknown base model 'fasterrcnn_resnet51_fpn'\. Did you mean"):
        from_torchvision(theirs, "fasterrcnn_resnet51_fpn")
    with pytest.raises(ValueError, match=r"weights of fasterrcnn_resnet50_fpn: weights of another detector"):
        from_torchvision(theirs, "fasterrcnn_resnet50_fpn")


def test_classes_of_ones_own_are_named_in_order(theirs: dict[str, Tensor]) -> None:
    names = [f"object {label}" for label in range(1, 91)]
    assert from_torchvision(theirs, MOBILE, classes=names).classes == tuple(names)


# -------------------------------------------------------------------------------------------------------- COCO by name


def test_coco_is_found_in_the_cache(coco_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with no_connections(monkeypatch):
        weights = find_weights(make_config(base_model=MOBILE).base_model, "coco", offline=False)
        automatic = find_weights(make_config(base_model=MOBILE).base_model, "auto", offline=True)
    assert isinstance(weights, DetectorWeights)
    assert isinstance(automatic, DetectorWeights)
    assert weights.source == automatic.source == str(coco_file)


def test_coco_offline_says_what_was_tried(coco_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco_file.unlink()
    with no_connections(monkeypatch), pytest.raises(FileNotFoundError, match=r"not allowed by --offline") as error:
        find_weights(make_config(base_model=MOBILE).base_model, "coco", offline=True)
    assert str(coco_file) in str(error.value)


def test_a_base_model_without_coco_weights_says_so() -> None:
    with pytest.raises(ValueError, match=r"'alexnet' has no weights trained on COCO; `frcnn base-models` shows"):
        find_weights(make_config(base_model="alexnet").base_model, "coco", offline=True)


@torch.no_grad()
def test_a_detector_trained_on_coco_is_loaded_by_name(coco_file: Path, theirs: dict[str, Tensor]) -> None:
    actual, expected = load_model(f"coco:{MOBILE}", device="cpu"), from_torchvision(theirs, MOBILE)
    assert coco_file.is_file()
    assert actual.classes == coco_classes()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(actual.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_detector_trained_on_coco_is_evaluated_by_name(
    coco_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`frcnn evaluate coco:NAME --data COCO`"""
    data = tmp_path / "coco"
    (data / "val2017").mkdir(parents=True)
    draw_image([("red", (10, 20, 60, 80))]).save(data / "val2017" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 128, "height": 96}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 18, "bbox": [10, 20, 50, 60]}],
    }
    (data / "annotations").mkdir()
    (data / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    assert main(["evaluate", f"coco:{MOBILE}", "--data", str(data), "--json", str(tmp_path / "found.json")]) == 0
    assert coco_file.is_file()
    assert "AP for             dog = 0." in capsys.readouterr().out
    actual = json.loads((tmp_path / "found.json").read_text())
    assert {name: each["objects"] for name, each in actual["per_class"].items() if each["objects"]} == {"dog": 1}
