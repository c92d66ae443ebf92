"""Every base model by name can be exported: the file finds in real photos what PyTorch finds. Some are
tested every time, all by `make test-slow`."""

from pathlib import Path

import pytest
import torch
from test_base_models import SMALL, random_weights
from torch import nn

from frcnn.config import base_model_names, make_config
from frcnn.data.images import read_image
from frcnn.data.transforms import prepare_images
from frcnn.export.export import export
from frcnn.nn.build import build_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.weights import find_weights


@torch.no_grad()
def random_model(name: str, photo: Path, folder: Path, seed: int) -> FasterRCNN:
    """Whose new layers say something, but not so much that rounding is multiplied."""
    weights = random_weights(name, photo, folder / "weights.safetensors")
    config = make_config(base_model=name, overrides=SMALL)
    torch.manual_seed(seed)
    found = find_weights(config.base_model, str(weights), offline=True)
    model = build_model(config.model, ("cup", "jar", "box"), found)
    weights.unlink()  # half a gigabyte for some
    inputs = [
        torch.from_numpy(array) for array in prepare_images([read_image(photo)], model.settings.detector.resizing)
    ]
    outputs: dict[nn.Module, torch.Tensor] = {}
    for layers in (
        (model.rpn.objectness, model.rpn.deltas),
        (model.roi_head.logits, model.roi_head.deltas),
    ):
        hooks = [layer.register_forward_hook(lambda layer, _, out: outputs.update({layer: out})) for layer in layers]
        model(*inputs)
        for layer, hook in zip(layers, hooks, strict=True):
            hook.remove()
            layer.weight.mul_(0.1 / outputs[layer].std())
    return model


EVERY_TIME = (
    "alexnet",  # its own fully connected layers
    "resnet18-fpn",
    "efficientnet_lite0-fpn",
)
NAMES = [pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.slow) for name in base_model_names()]


@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_the_same_model(name: str, photos: list[Path], tmp_path: Path) -> None:
    """In the first random model of vgg16_bn-fpn two proposals are so equally good that rounding decides which one is
    kept; so it has another."""
    seed = int(name == "vgg16_bn-fpn")
    model = random_model(name, photos[0], tmp_path, seed)
    done = export(model, "onnx", tmp_path / "model.onnx", data=photos[0].parent)
    assert len(done.runs) == 3
    for one in done.runs:
        assert one.difference.without_match == 0
        assert one.difference.detections > 50
