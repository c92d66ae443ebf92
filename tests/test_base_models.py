"""Every base model by name: it trains, is stored, loaded and measured; one of each family learns a photo by heart."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import OnStep, write_annotated, write_tiny
from torch import nn

import frcnn
from frcnn.config import base_model_names, make_config, parse_overrides
from frcnn.data.images import read_image
from frcnn.nn.backbone import build_classifier
from frcnn.training.train import train

SMALL = (
    "detector.image.shorter_side=96",
    "detector.image.longer_side=128",
    "detector.train_proposals.post_nms_top_n=40",
    "detector.test_proposals.post_nms_top_n=20",
    "detector.test_proposals.score_threshold=0",
    "detector.results.score_threshold=0",
    "train.roi.sample_size=8",
    "train.precision=fp32",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@torch.no_grad()
def random_weights(name: str, photo: Path, file: Path) -> Path:
    """Of the classifier, with the photo's statistics in batch norm: frozen, it does what it does in trained weights.

    Without them, a hundred random layers end in numbers that are too large.
    """
    settings = make_config(base_model=name).base_model
    torch.manual_seed(0)
    classifier = build_classifier(settings.architecture).train()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    pixels = torch.from_numpy(np.array(read_image(photo), dtype=np.float32))
    image = ((pixels - torch.tensor(settings.mean)) / torch.tensor(settings.std)).permute(2, 0, 1)[None]
    classifier(image.repeat(2, 1, 1, 1))
    save_file(classifier.state_dict(), file)
    return file


LIKE_OTHERS = {
    *(f"vgg{layers}{norm}{fpn}" for layers in (11, 13, 16, 19) for norm in ("", "_bn") for fpn in ("", "-fpn")),
    *("resnet101", "resnet101-fpn"),
} - {"vgg16", "vgg16_bn-fpn"}
"""Base models that differ from tested ones in the number of layers; `make test-slow` tests them."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LIKE_OTHERS else []) for name in base_model_names()],
)
def test_it_trains_two_steps_and_detects_the_same_after_loading(name: str, data: Path, tmp_path: Path) -> None:
    steps: list[float] = []
    weights = random_weights(name, data / "positive" / "0.png", tmp_path / "weights.safetensors")
    result = train(
        data,
        out=tmp_path / "run",
        base_model=name,
        weights=str(weights),
        plan=False,
        settings=parse_overrides([*SMALL, "train.epochs=1", "data.num_train_images=2", "data.num_test_images=1"]),
        offline=True,
        callbacks=[OnStep(lambda report: steps.append(report.loss))],
    )
    run = result.run_dir
    assert len(steps) == 2
    assert all(math.isfinite(loss) for loss in steps)
    before, after = result.metrics, frcnn.load(run).evaluate()
    assert before is not None
    assert len(before.detections[0]) > 0
    for field in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(before.detections[0], field), getattr(after.detections[0], field))
    assert before.map50 == after.map50
    for file in (weights, run / "model.safetensors"):
        file.unlink()  # half a gigabyte for some


FAMILIES = (
    "alexnet",
    "vgg16",
    "resnet18",
    "resnet18-fpn",
    "resnext50_32x4d-fpn",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_lite0-fpn",
    "convnext_tiny",
    "regnet_y_800mf",
    "fasterrcnn_resnet50_fpn_v2",
)


FAST_LEARNERS = ("alexnet", "vgg16")  # whose steps take long


SLOW = (
    *("vgg16", "resnet18", "resnext50_32x4d-fpn", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0-fpn"),
    *("convnext_tiny", "regnet_y_800mf", "resnet18-fpn", "fasterrcnn_resnet50_fpn_v2"),
)
"""The slowest families; `make test-slow` runs them."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES]
)
def test_it_learns_one_image_by_heart(name: str, shared: Path, tmp_path: Path) -> None:
    objects = [("red", (8, 10, 56, 60)), ("blue", (70, 30, 118, 84))]
    for part in ("positive", "testImages"):
        write_annotated(tmp_path / "data" / part / "photo.png", objects)
    photo = tmp_path / "data" / "positive" / "photo.png"
    features = shared / "weights" / f"{name}_features.safetensors"
    weights = features if features.is_file() else random_weights(name, photo, tmp_path / "weights.safetensors")
    result = train(
        tmp_path / "data",
        out=tmp_path / "run",
        base_model=name,
        weights=str(weights),
        plan=False,
        epochs=75 if name in FAST_LEARNERS else 150,
        lr=0.004,
        seed=1,
        settings=parse_overrides(SMALL)
        | {
            "train.flip": False,
            "train.warmup_steps": 10,
            "train.roi.sample_size": 16,
            "base_model.freeze_before": None,
        },
        offline=True,
    )
    metrics = result.metrics
    assert metrics is not None
    assert metrics.map50 == 1.0
    assert (metrics.detections[0].confidence[:2] > 0.5).all()
