"""Classifiers, cut: the pieces compute what the classifier computes."""

import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from frcnn.config import BaseModelSettings, make_config
from frcnn.config.rules import TORCHVISION
from frcnn.nn.backbone import BaseModel, build_classifier, cut_classifier, head_width
from frcnn.types import Level

CENTRES = {"alexnet": 15.5, "vgg16": 8.0, "efficientnet_lite0": 0.5}  # input pixels, see the oracle below


def settings(base_model: str, **changes: object) -> BaseModelSettings:
    return BaseModelSettings(**{**make_config(base_model=base_model).base_model.model_dump(), **changes})


@cache
def classifier(base_model: str) -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(settings(base_model).architecture)


@cache
def preset(base_model: str) -> BaseModel:
    return cut_classifier(classifier(base_model), settings(base_model))


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def image() -> Tensor:
    return noise(1, 3, 224, 224)


@torch.no_grad()
def test_alexnets_pieces_in_a_row_are_alexnet_up_to_its_last_hidden_layer() -> None:
    """On 224 pixels the pooled map has the head's 6 x 6 cells, so that nothing has to be resized."""
    alexnet = classifier("alexnet")
    base = preset("alexnet")
    (features,) = base.conv_layers(image())
    torch.testing.assert_close(features, alexnet.features[:12](image()))
    pooled = alexnet.features[12](features)
    assert pooled.shape == (1, *base.channels, 6, 6)
    torch.testing.assert_close(base.head(pooled), alexnet.classifier[:6](alexnet.features(image()).flatten(1)))
    assert head_width(base.head, 256, 6) == 4096


@torch.no_grad()
def test_vgg16s_pieces_in_a_row_are_vgg16_up_to_its_last_hidden_layer() -> None:
    vgg16 = classifier("vgg16")
    base = preset("vgg16")
    pooled = vgg16.features[30](base.conv_layers(image())[0])
    torch.testing.assert_close(base.head(pooled), vgg16.classifier[:6](vgg16.features(image()).flatten(1)))
    assert base.channels == (512,)
    assert head_width(base.head, 512, 7) == 4096


@torch.no_grad()
def test_efficientnets_conv_layers_are_its_first_five_stages() -> None:
    lite0 = classifier("efficientnet_lite0")
    base = preset("efficientnet_lite0")
    expected = lite0.blocks[:5](lite0.bn1(lite0.conv_stem(image())))
    torch.testing.assert_close(base.conv_layers(image()), [expected])
    assert base.channels == (112,)
    assert head_width(base.head, 112, 7) == 112 * 7 * 7


@torch.no_grad()
def test_the_stages_after_the_conv_layers_may_be_the_head() -> None:
    lite0 = classifier("efficientnet_lite0")
    base = cut_classifier(lite0, settings("efficientnet_lite0", last_hidden_node="global_pool"))
    pooled = noise(2, 112, 7, 7)
    expected = lite0.forward_head(lite0.bn2(lite0.conv_head(lite0.blocks[5:](pooled))), pre_logits=True)
    torch.testing.assert_close(base.head(pooled), expected)


def test_pooling_to_the_size_of_the_rois_is_removed() -> None:
    alexnet = classifier("alexnet")
    kinds = [type(layer) for layer in cut_classifier(alexnet, settings("alexnet", roi_size=7)).head.modules()]
    assert nn.AdaptiveAvgPool2d in kinds
    base = preset("alexnet")
    assert "avgpool" not in {node.target for node in base.head.graph.nodes}
    assert any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in alexnet.modules())


@pytest.mark.parametrize("base_model", CENTRES)
def test_stride_is_measured(base_model: str) -> None:
    assert preset(base_model).levels[0].stride == 16


def test_a_wrong_stride_is_an_error() -> None:
    assert cut_classifier(classifier("alexnet"), settings("alexnet", stride=16)).levels[0].stride == 16
    with pytest.raises(ValueError, match=r"base_model\.stride is 32, but node 'features\.11' has stride 16; leave the"):
        cut_classifier(classifier("alexnet"), settings("alexnet", stride=32))


@pytest.mark.parametrize("base_model", CENTRES)
def test_offset_is_the_center_of_the_receptive_field(base_model: str) -> None:
    """Oracle: which pixels a cell answers to, on average, seen by the gradient of a network that only averages."""
    torch.manual_seed(0)
    averaging = build_classifier(settings(base_model).architecture)
    for module in list(averaging.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            if isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    base = cut_classifier(averaging, settings(base_model))
    ((stride, offset),) = base.levels
    cell = 15 if base_model == "efficientnet_lite0" else 7  # far enough from the border for all it sees
    side = 32 * cell
    pixels = torch.full((1, 3, side, side), 0.01, requires_grad=True)
    base.conv_layers(pixels)[0][0, :, cell, cell].sum().backward()
    assert pixels.grad is not None
    seen = pixels.grad[0, 0].sum(dim=0)
    center = (seen * (torch.arange(side) + 0.5)).sum() / seen.sum()
    torch.testing.assert_close(center, torch.tensor((cell + offset) * stride), atol=0.05, rtol=0)
    assert offset * stride == CENTRES[base_model]


def test_torchvision_uses_the_corner_of_a_cell() -> None:
    assert cut_classifier(classifier("alexnet"), settings("alexnet"), TORCHVISION).levels[0].offset == 0


def test_a_cell_whose_center_depends_on_the_image_has_offset_one_half() -> None:
    """timm's tf_ models pad by the size of their input."""
    base = BaseModelSettings(name="tf", architecture="timm:tf_efficientnet_lite0", last_conv_node="blocks.4")
    assert cut_classifier(build_classifier(base.architecture), base).levels == (Level(16, 0.5),)


@pytest.mark.parametrize(
    ("detector", "freeze", "eps"),
    [("fasterrcnn_resnet50_fpn", True, 0.0), ("fasterrcnn_resnet50_fpn", False, 1e-5), (None, True, 1e-5)],
)
def test_torchvisions_batch_norm_has_its_own_eps(detector: str | None, freeze: bool, eps: float) -> None:
    classifier = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, eps=0.5), nn.ReLU()).eval()
    base = BaseModelSettings(
        name="mine",
        architecture="none",
        last_conv_node="2",
        coco_detector=detector,
        freeze_batch_norm=freeze,
    )
    cut_classifier(classifier, base, TORCHVISION)
    assert classifier[1].eps == eps


@pytest.mark.parametrize(
    ("node", "wrong", "right"),
    [
        ("last_conv_node", "features.111", "features.11"),
        ("pool_node", "feature.12", "features.12"),
        ("last_hidden_node", "clasifier.5", "classifier.5"),
        ("freeze_before", "features.66", "features.6"),
        ("input_node", "xx", "x"),
    ],
)
def test_the_message_for_a_wrong_node_name_has_the_nearest(node: str, wrong: str, right: str) -> None:
    expected = (
        rf"base_model\.{node}: there is no node '{re.escape(wrong)}'\. Did you mean '{re.escape(right)}'\? "
        r"Next nearest: .+, .+; `frcnn layers` lists them all"
    )
    with pytest.raises(ValueError, match=expected):
        cut_classifier(classifier("alexnet"), settings("alexnet", **{node: wrong}))


def test_nodes_in_the_wrong_order_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"does not follow from 'classifier\.5' alone; name them in the order"):
        cut_classifier(
            classifier("alexnet"), settings("alexnet", pool_node="classifier.5", last_hidden_node="features.12")
        )


def test_the_message_names_transformers() -> None:
    base = BaseModelSettings(name="vit", architecture="timm:vit_tiny_patch16_224", last_conv_node=("blocks.5",))
    expected = r"node 'blocks\.5\.add_1' does not follow from 'x' alone; it takes '\w+' too, as transformers do"
    with pytest.raises(ValueError, match=expected):
        cut_classifier(build_classifier(base.architecture), base)


def test_a_node_that_is_no_feature_map_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"last_conv_node 'classifier\.5' does not give a feature map"):
        cut_classifier(
            classifier("alexnet"),
            settings("alexnet", last_conv_node="classifier.5", pool_node=None, last_hidden_node="classifier.6"),
        )


def test_a_roi_size_that_does_not_fit_the_head_is_an_error() -> None:
    """VGG16's head pools to 7 x 7 whatever it gets; a plain classifier without that has one size only."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 4, stride=4)
            self.fc = nn.Linear(4 * 7 * 7, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).flatten(1))

    plain = BaseModelSettings(
        name="plain", architecture="none", last_conv_node="conv", last_hidden_node="fc", roi_size=7
    )
    assert head_width(cut_classifier(Plain(), plain).head, 4, 7) == 10
    with pytest.raises(ValueError, match=r"base_model\.roi_size 6 does not fit the head"):
        head_width(cut_classifier(Plain(), plain).head, 4, 6)


@pytest.mark.parametrize(
    ("node", "frozen"),
    [
        (None, set()),
        ("features.6", {"features.0", "features.3"}),
        ("features.5", {"features.0", "features.3"}),  # a pooling layer: those before it
        ("features.0", set()),
    ],
)
def test_freeze_before_freezes_exactly_the_earlier_layers(node: str | None, frozen: set[str]) -> None:
    base = cut_classifier(classifier("alexnet"), settings("alexnet", freeze_before=node))
    assert base.frozen == {f"{name}.{kind}" for name in frozen for kind in ("weight", "bias")}


def test_vgg16_freezes_conv1_and_conv2_as_in_the_paper() -> None:
    layers = {name.rpartition(".")[0] for name in preset("vgg16").frozen}
    assert layers == {"features.0", "features.2", "features.5", "features.7"}


def test_freeze_before_a_block_freezes_all_blocks_before_it() -> None:
    base = cut_classifier(classifier("efficientnet_lite0"), settings("efficientnet_lite0", freeze_before="blocks.2"))
    parts = {name for name, _ in base.conv_layers.named_parameters()}
    assert base.frozen == {name for name in parts if not name.startswith(("blocks.2", "blocks.3", "blocks.4"))}


def test_dropout_can_be_set() -> None:
    alexnet = build_classifier("torchvision:alexnet")
    for wanted, seen in ((None, {0.5}), (0.0, {0.0}), (0.2, {0.2})):
        base = cut_classifier(alexnet, settings("alexnet", dropout=wanted))
        assert {module.p for module in base.head.modules() if isinstance(module, nn.Dropout)} == seen


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("alexnet", r"base_model\.architecture 'alexnet': must be torchvision:NAME or timm:NAME"),
        ("keras:alexnet", r"must be torchvision:NAME or timm:NAME"),
        ("torchvision:alexnett", r"torchvision has no model 'alexnett'\. Did you mean 'alexnet'\?"),
        ("timm:efficientnet_lite00", r"timm has no model 'efficientnet_lite00'\. Did you mean 'efficientnet_lite0'\?"),
    ],
)
def test_an_unknown_architecture_is_an_error(architecture: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_classifier(architecture)


# --------------------------------------------------------------------------------------------- cuts that are impossible

RESNET = {"name": "mine", "architecture": "torchvision:resnet18", "last_conv_node": ("layer3",)}
IMPOSSIBLE = {
    "no head": ({"fc_channels": ()}, r"the cut leaves no head; name base_model\.last_hidden_node, or give new layers"),
    "a head of nothing": (
        {"last_hidden_node": "layer3"},
        r"last_hidden_node 'layer3': the cut leaves no head, as RoI pooling comes after this very node",
    ),
    "coarsest first": ({"last_conv_node": ("layer3", "layer2")}, r"finest first, .*'layer2' has stride 8 after 16"),
    "a node twice": ({"last_conv_node": ("layer3", "layer3")}, r"\['layer3', 'layer3'\]: names a node twice"),
    "the head of a pyramid": (
        {"last_conv_node": ("layer2", "layer3"), "last_hidden_node": "avgpool"},
        r"last_hidden_node 'avgpool': the base model's own layers do not fit the maps of a pyramid",
    ),
    "images of one size": (
        {"architecture": "torchvision:vit_b_16", "last_conv_node": ("encoder",)},
        r"'torchvision:vit_b_16' does not accept images of any size .*; choose a convolutional one",
    ),
    "no feature map": (
        {"architecture": "torchvision:swin_t", "last_conv_node": ("features.5",)},
        r"'features\.5' does not give a feature map",
    ),
}


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_cut_is_an_error(changes: dict[str, object], message: str) -> None:
    base = BaseModelSettings.model_validate({**RESNET, **changes})
    with pytest.raises(ValueError, match=message):
        cut_classifier(build_classifier(base.architecture), base)


def test_a_stride_that_does_not_divide_is_an_error() -> None:
    class Thirds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    with pytest.raises(ValueError, match=r"last_conv_node 'conv': the stride is not a whole number of pixels"):
        cut_classifier(Thirds(), BaseModelSettings(name="thirds", architecture="none", last_conv_node=("conv",)))


def test_a_block_that_branches_on_its_input_is_one_node() -> None:
    """The head of timm's VGGs asks how large its map is."""
    base = BaseModelSettings(
        name="vgg11",
        architecture="timm:vgg11",
        last_conv_node=("features.19",),
        pool_node="features.20",
        last_hidden_node="pre_logits",
    )
    base_model = cut_classifier(build_classifier(base.architecture), base)
    assert (base_model.levels[0].stride, base_model.channels) == (16, (512,))
    assert head_width(base_model.head, 512, 7) == 4096
