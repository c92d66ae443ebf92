"""`frcnn import`: files of other libraries become model files; code in them never runs."""

import argparse
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from oracles.detectron2 import Detectron2, Rules, config_of
from oracles.mmdetection import Mmdetection
from oracles.mmdetection import Rules as MmdetectionRules
from oracles.mmdetection import config_of as mmdetection_config
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import frcnn
from frcnn.cli import main
from frcnn.cli.import_ import _LIBRARIES
from frcnn.config import make_config
from frcnn.nn.migrate.files import LIBRARIES, import_detector
from frcnn.nn.model_file import load_model
from frcnn.nn.weights import find_weights

MOBILE = "fasterrcnn_mobilenet_v3_large_fpn"


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    """Of torchvision: a pyramid on ResNet-18, three classes."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return detection.FasterRCNN(backbone, num_classes=4).state_dict()


@pytest.fixture(scope="module")
def of_detectron2() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Detectron2(Rules(depth=18)).state_dict()


@pytest.fixture(scope="module")
def of_mmdetection() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return Mmdetection(MmdetectionRules(depth=18)).state_dict()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump(config_of(Rules(depth=18))))
    return path


def same_weights(file: Path, tensor: Tensor) -> bool:
    return torch.equal(load_model(file, device="cpu").get_parameter("rpn.convs.0.weight"), tensor)


def test_the_command_knows_the_libraries() -> None:
    assert _LIBRARIES == LIBRARIES


def test_a_state_dict_of_torchvision(
    theirs: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(theirs, tmp_path / "weights.pth")
    out = tmp_path / "model.safetensors"
    arguments = ["--from", "torchvision", "--classes", "cat, dog,bird", "--out", str(out)]
    more = ["--set", "detector.image.shorter_side=300"]
    assert main(["import", str(tmp_path / "weights.pth"), *arguments, *more]) == 0
    model = load_model(out, device="cpu")
    assert model.classes == ("cat", "dog", "bird")
    assert model.settings.detector.image.shorter_side == 300
    assert same_weights(out, theirs["rpn.head.conv.0.0.weight"])
    printed = capsys.readouterr().out
    assert "fasterrcnn_resnet18_fpn, 3 classes (cat, dog, bird)" in printed
    assert "assumed: torchvision's defaults" in printed
    assert f"next: frcnn predict {out} IMAGE --threshold 0.05" in printed


def test_the_epsilon_that_is_assumed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    tensors = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    counted = [name for name in tensors if name.endswith("num_batches_tracked")]
    save_file({name: tensor for name, tensor in tensors.items() if name not in counted}, tmp_path / "a.safetensors")
    arguments = ["import", str(tmp_path / "a.safetensors"), "--from", "torchvision"]
    arguments += ["--out", str(tmp_path / "model.safetensors")]
    assert main(arguments) == 0
    assert "batch norm has the epsilon 0" in capsys.readouterr().out
    assert len(load_model(tmp_path / "model.safetensors", device="cpu").classes) == 90
    assert main([*arguments, "--set", "base_model.batch_norm_eps=1e-5"]) == 0
    assert "has the epsilon 0" not in capsys.readouterr().out


def test_a_checkpoint_of_torchvisions_training_script(theirs: dict[str, Tensor], tmp_path: Path) -> None:
    """It holds the options of the command as an argparse.Namespace."""
    checkpoint = {
        "model": {f"module.{name}": tensor for name, tensor in theirs.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.02}]},
        "lr_scheduler": {"milestones": Counter({16: 1, 22: 1}), "gamma": 0.1},
        "args": argparse.Namespace(data_path="/datasets", lr_steps=[16, 22], device="cuda", distributed=False),
        "epoch": 25,
    }
    torch.save(checkpoint, tmp_path / "model_25.pth")
    model = import_detector(tmp_path / "model_25.pth", "torchvision", classes=["a", "b", "c"])
    assert torch.equal(model.get_parameter("rpn.convs.0.weight"), theirs["rpn.head.conv.0.0.weight"])


@pytest.mark.parametrize("name", ["model_final.pth", "model_final.pkl", "model_final.safetensors"])
def test_files_of_detectron2(name: str, of_detectron2: dict[str, Tensor], config: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save({"model": of_detectron2, "optimizer": {}, "scheduler": {"last_epoch": 9}, "iteration": 9}, path)
    elif path.suffix == ".pkl":
        arrays = {key: tensor.numpy() for key, tensor in of_detectron2.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    else:
        save_file(of_detectron2, path)
    (tmp_path / "names.txt").write_text("eins\nzwei\n\ndrei\nvier\nfünf\n", encoding="utf-8")
    out = tmp_path / "model.safetensors"
    arguments = ["import", str(path), "--from", "detectron2", "--config", str(config)]
    assert main([*arguments, "--classes", str(tmp_path / "names.txt"), "--out", str(out)]) == 0
    assert load_model(out, device="cpu").classes == ("eins", "zwei", "drei", "vier", "fünf")
    assert same_weights(out, of_detectron2["proposal_generator.rpn_head.conv.weight"])


@pytest.mark.parametrize("where", ["meta", "option"])
@pytest.mark.parametrize("key", ["dataset_meta", "CLASSES"])
def test_a_checkpoint_of_mmdetection_names_its_classes_and_holds_its_config(
    where: str, key: str, of_mmdetection: dict[str, Tensor], tmp_path: Path
) -> None:
    text = "\n".join(f"{name} = {value!r}" for name, value in mmdetection_config(MmdetectionRules(depth=18)).items())
    classes = ("eins", "zwei", "drei", "vier", "fünf")
    meta: dict[str, object] = {"mmdet_version": "2.28.0", "epoch": 12}
    meta |= {"dataset_meta": {"classes": classes, "palette": [(1, 2, 3)]}} if key == "dataset_meta" else {key: classes}
    arguments = []
    if where == "meta":
        meta["cfg"] = text
    else:
        (tmp_path / "config.py").write_text(text)
        arguments = ["--config", str(tmp_path / "config.py")]
    torch.save({"meta": meta, "state_dict": of_mmdetection, "optimizer": {"state": {}}}, tmp_path / "epoch_12.pth")
    out = tmp_path / "model.safetensors"
    command = ["import", str(tmp_path / "epoch_12.pth"), "--from", "mmdetection", "--out", str(out)]
    assert main([*command, *arguments]) == 0
    assert load_model(out, device="cpu").classes == classes
    assert same_weights(out, of_mmdetection["rpn_head.rpn_conv.weight"])
    assert main([*command, *arguments, "--classes", "a,b,c,d,e"]) == 0
    assert load_model(out, device="cpu").classes == tuple("abcde")


def test_messages_about_mmdetection(of_mmdetection: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"meta": {"mmdet_version": "1.2.0"}, "state_dict": of_mmdetection}, path)
    assert "a.pth: of mmdetection 1.2.0, whose boxes are one pixel larger" in message_of(path, "mmdetection")
    torch.save(of_mmdetection, path)
    assert "the config of mmdetection is missing (--config)" in message_of(path, "mmdetection")
    assert "the names of mmdetection, not of detectron2" in message_of(path, "detectron2", config="a.yaml")
    torch.save({"state_dict": of_mmdetection, "message_hub": torch.nn.Linear(1, 1)}, path)
    assert "torch.save({'meta': c['meta'], 'state_dict'" in message_of(path, "mmdetection")


def message_of(path: Path, library: str, **options: object) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        import_detector(path, library, **options)  # type: ignore[arg-type]
    return str(error.value)


def test_messages_name_the_error(
    theirs: dict[str, Tensor], of_detectron2: dict[str, Tensor], config: Path, tmp_path: Path
) -> None:
    ours, other, backbone = tmp_path / "ours.pth", tmp_path / "other.pth", tmp_path / "backbone.pth"
    torch.save(theirs, ours)
    torch.save(of_detectron2, other)
    torch.save({"conv1.weight": torch.zeros(1)}, backbone)
    assert "nowhere.pth: no such file of weights" in message_of(tmp_path / "nowhere.pth", "torchvision")
    assert "library 'keras': choose torchvision, detectron2, mmdetection" in message_of(ours, "keras")
    assert "torchvision has no config files" in message_of(ours, "torchvision", config=config)
    assert "the config of detectron2 names it" in message_of(other, "detectron2", config=config, name=MOBILE)
    assert "the config of detectron2 is missing (--config)" in message_of(other, "detectron2")
    assert "the names of detectron2, not of torchvision" in message_of(other, "torchvision")
    assert "the names of torchvision, not of detectron2" in message_of(ours, "detectron2", config=config)
    assert "backbone.pth: not a Faster R-CNN of torchvision" in message_of(backbone, "torchvision")
    assert "ours.pth: the weights have 3 classes, COCO has 90" in message_of(ours, "torchvision")
    wrong = message_of(ours, "torchvision", classes=["a"])
    assert "ours.pth: classes: 1 name, but the weights have 3 classes; name them all" in wrong
    wrong = message_of(ours, "torchvision", classes=["a", "b", "c"], name=MOBILE)
    assert f"ours.pth: weights of {MOBILE}: weights of another detector" in wrong


@pytest.mark.parametrize("library", LIBRARIES)
def test_weights_that_are_no_numbers(
    library: str,
    theirs: dict[str, Tensor],
    of_detectron2: dict[str, Tensor],
    of_mmdetection: dict[str, Tensor],
    config: Path,
    tmp_path: Path,
) -> None:
    original = {"torchvision": theirs, "detectron2": of_detectron2, "mmdetection": of_mmdetection}[library]
    key = next(name for name in original if "rpn" in name and "conv" in name and name.endswith("weight"))
    tensors = {**original, key: original[key].clone()}
    tensors[key].view(-1)[0] = float("nan")
    torch.save(tensors, tmp_path / "a.pth")
    options: dict[str, object] = {"classes": "abc" if library == "torchvision" else "abcde"}
    if library == "detectron2":
        options["config"] = config
    elif library == "mmdetection":
        values = mmdetection_config(MmdetectionRules(depth=18))
        (tmp_path / "config.py").write_text("\n".join(f"{name} = {value!r}" for name, value in values.items()))
        options["config"] = tmp_path / "config.py"
    said = message_of(tmp_path / "a.pth", library, **options)
    assert "a.pth: weights of " in said
    assert "damaged, rpn.convs.0.weight has infinite or NaN values" in said
    if library == "torchvision":
        with pytest.raises(ValueError, match=r"rpn\.convs\.0\.weight has infinite or NaN values"):
            frcnn.from_torchvision(tensors, classes="abc")


def test_classes_that_no_model_file_holds_are_refused_before_it_is_written(
    theirs: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(theirs, tmp_path / "weights.pth")
    out = tmp_path / "model.safetensors"
    command = ["import", str(tmp_path / "weights.pth"), "--from", "torchvision", "--out", str(out), "--classes"]
    for name in ("x" * 1001, "ca\x1bt"):
        assert main([*command, f"{name},dog,bird"]) == 2
        assert "model.safetensors: the class '" in capsys.readouterr().err
        assert not out.exists()


def test_files_that_could_run_code_are_not_opened(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pth")
    said = message_of(tmp_path / "whole.pth", "torchvision")
    assert "could run code. Save the weights alone where it was written: torch.save(model.state_dict()" in said
    said = message_of(tmp_path / "whole.pth", "detectron2", config="config.yaml")
    assert "torch.load(FILE, weights_only=False)['model']" in said


def test_a_file_of_detectron_1_is_refused(tmp_path: Path) -> None:
    content = {"blobs": {"conv1_w": np.zeros(1, np.float32)}, "cfg": "MODEL: {}"}
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(content, 2))
    said = message_of(tmp_path / "old.pkl", "detectron2", config="config.yaml")
    assert "old.pkl: a file of Detectron, the predecessor of detectron2" in said


@pytest.mark.parametrize("library", ["detectron2", "mmdetection"])
def test_training_says_how_to_start_from_other_libraries(
    library: str, of_detectron2: dict[str, Tensor], of_mmdetection: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(of_detectron2 if library == "detectron2" else of_mmdetection, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"weights of {library}; `frcnn import other\.pth --from {library}"):
        find_weights(make_config().base_model, str(tmp_path / "other.pth"), offline=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "torchvision", "--out", "model.pth"], "model.pth: a model file ends in .safetensors"),
        (["--from", "torchvision", "--out", "a.safetensors"], "nowhere.pth: no such file of weights"),
    ],
)
def test_the_command_fails_with_a_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "nowhere.pth", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_names_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import", "a.pth", "--from", "torchvision", "--classes", "nowhere.txt", "--out", "a.safetensors"])
    assert "nowhere.txt cannot be read" in capsys.readouterr().err
