"""The feature pyramid: torchvision's, from the same weights; its norms."""

import pytest
import torch
from tiny import SIZE, random_inputs, tiny_config, tiny_detector
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from frcnn.nn.detector import FasterRCNN
from frcnn.nn.fpn import FPN
from frcnn.nn.translation import from_torchvision_keys
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
    found = ours(maps())
    assert len(found) == len(CHANNELS) + 1
    for one, other in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_a_finer_level_knows_what_the_coarsest_sees_and_not_the_other_way_round() -> None:
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
    detector = tiny_detector(
        "base_model.name=efficientnet_lite0-fpn",
        f"base_model.norm={norm}",
        "base_model.conv_channels=[32]",
        "detector.anchors.base_size=null",
    )
    parts = [*detector.backbone.pyramid.modules(), *detector.roi_head.convs.modules()]
    norms = [part for part in parts if isinstance(part, nn.BatchNorm2d | nn.GroupNorm)]
    convs = [part for part in parts if isinstance(part, nn.Conv2d)]
    assert {type(part) for part in norms} == ({layer} if layer else set())
    assert len(norms) == (len(convs) if layer else 0)
    assert {conv.bias is None for conv in convs} == {layer is not None}


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_new_norm_learns_where_the_base_models_is_frozen(norm: str) -> None:
    settings = ("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null")
    detector = tiny_detector(*settings, f"base_model.norm={norm}").train()
    assert "backbone.pyramid.lateral.0.1.weight" not in detector.fixed
    assert "backbone.conv_layers.bn1.weight" in detector.fixed
    assert detector.backbone.pyramid.lateral[0][1].training
    assert not detector.backbone.conv_layers.bn1.training


def test_a_norm_that_came_with_a_detectors_weights_is_frozen() -> None:
    settings = ("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null", "base_model.norm=batch")
    first = tiny_detector(*settings)
    weights = DetectorWeights(first.state_dict(), first.classes, "a RUN")
    detector = FasterRCNN(first.config, first.classes, weights).train()
    assert "backbone.pyramid.lateral.0.1.weight" in detector.fixed
    assert not detector.backbone.pyramid.lateral[0][1].training


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_norm_without_a_place_is_refused(norm: str) -> None:
    with pytest.raises(ValueError, match=rf"base_model\.norm {norm}: there is no new conv layer that it could follow"):
        tiny_config(f"base_model.norm={norm}")


@torch.no_grad()
def test_a_pyramids_detections_lie_inside_the_image() -> None:
    detector = tiny_detector("base_model.name=efficientnet_lite0-fpn", "detector.anchors.base_size=null")
    images, sizes = random_inputs(SIZE, (70, 90))
    found = detector(images, sizes, sizes)
    assert found.valid.sum() > 5
    for boxes, valid, (height, width) in zip(found.boxes, found.valid, sizes, strict=True):
        assert (boxes[valid][:, 2] <= width).all()
        assert (boxes[valid][:, 3] <= height).all()
    assert [level.stride for level in detector.rpn.levels] == [4, 8, 16, 32, 64]
