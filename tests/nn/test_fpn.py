"""The feature pyramid: torchvision's, from the same weights; its norms."""

import pytest
import torch
from tiny import SIZE, random_inputs, tiny_config, tiny_model
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from frcnn.nn.build import build_model
from frcnn.nn.fpn import FPN
from frcnn.nn.torchvision_keys import from_torchvision_keys
from frcnn.nn.weights import DetectorWeights

CHANNELS = (8, 16, 24)


def maps() -> list[Tensor]:
    """Of an image whose sides are no multiples of the strides."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((25, 19), (13, 10), (7, 5))
    return [torch.randn(2, count, *size, generator=generator) for count, size in zip(CHANNELS, sizes, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_it_is_torchvisions(norm: str) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d if norm == "batch" else None
    theirs = FeaturePyramidNetwork(list(CHANNELS), 32, LastLevelMaxPool(), norm_layer=layer).eval()
    ours = FPN(CHANNELS, 32, norm).eval()
    translated = from_torchvision_keys({f"backbone.fpn.{key}": value for key, value in theirs.state_dict().items()})
    ours.load_state_dict({key.removeprefix("backbone.pyramid."): value for key, value in translated.items()})
    expected = theirs({str(level): one for level, one in enumerate(maps())})
    outputs = ours(maps())
    assert len(outputs) == len(CHANNELS) + 1
    for one, other in zip(outputs, expected.values(), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_finer_levels_depend_on_the_coarsest_but_not_the_reverse() -> None:
    torch.manual_seed(0)
    pyramid = FPN(CHANNELS, 32, "none")
    before = pyramid(maps())
    coarser = maps()
    coarser[-1] = coarser[-1] + 1
    assert all(not torch.equal(one, other) for one, other in zip(before, pyramid(coarser), strict=True))
    finer = maps()
    finer[0] = finer[0] + 1
    assert [torch.equal(one, other) for one, other in zip(before, pyramid(finer), strict=True)] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(("norm", "layer"), [("none", None), ("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)])
def test_the_norm_is_in_pyramid_and_head_and_replaces_the_bias(norm: str, layer: type[nn.Module] | None) -> None:
    model = tiny_model(
        "base_model.name=efficientnet_lite0-fpn",
        f"base_model.norm={norm}",
        "base_model.conv_channels=[32]",
        "detector.anchors.base_size=null",
    )
    parts = [*model.backbone.pyramid.modules(), *model.roi_head.convs.modules()]
    norms = [part for part in parts if isinstance(part, nn.BatchNorm2d | nn.GroupNorm)]
    convs = [part for part in parts if isinstance(part, nn.Conv2d)]
    assert {type(part) for part in norms} == ({layer} if layer else set())
    assert len(norms) == (len(convs) if layer else 0)
    assert {conv.bias is None for conv in convs} == {layer is not None}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_new_norm_learns_where_the_base_models_is_frozen(norm: str) -> None:
    settings = ("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null")
    model = tiny_model(*settings, f"base_model.norm={norm}").train()
    assert "backbone.pyramid.lateral.0.1.weight" not in model.frozen
    assert "backbone.conv_layers.bn1.weight" in model.frozen
    assert model.backbone.pyramid.lateral[0][1].training
    assert not model.backbone.conv_layers.bn1.training


def test_a_norm_that_came_with_a_detectors_weights_is_frozen() -> None:
    settings = ("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null", "base_model.norm=batch")
    first = tiny_model(*settings)
    weights = DetectorWeights(first.state_dict(), first.classes, "a run directory")
    model = build_model(first.settings, first.classes, weights).train()
    assert "backbone.pyramid.lateral.0.1.weight" in model.frozen
    assert not model.backbone.pyramid.lateral[0][1].training


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_norm_without_new_layers_is_an_error(norm: str) -> None:
    with pytest.raises(ValueError, match=rf"base_model\.norm {norm}: there is no new conv layer that it could follow"):
        tiny_config(f"base_model.norm={norm}")


@torch.no_grad()
def test_a_pyramids_detections_lie_inside_the_image() -> None:
    model = tiny_model("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null")
    images, sizes = random_inputs(SIZE, (70, 90))
    outputs = model(images, sizes, sizes)
    assert outputs.valid.sum() > 5
    for boxes, valid, (height, width) in zip(outputs.boxes, outputs.valid, sizes, strict=True):
        assert (boxes[valid][:, 2] <= width).all()
        assert (boxes[valid][:, 3] <= height).all()
    assert [level.stride for level in model.rpn.levels] == [4, 8, 16, 32, 64]
