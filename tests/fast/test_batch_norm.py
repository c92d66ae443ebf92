"""Batch norm that is part of the convolution before it, against batch norm as a layer."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.testing import assert_close

from frcnn.fast.batch_norm import conv_with_norm, fuse_batch_norm


class Classifier(nn.Module):
    """With every case: a bias, groups, an activation inside, a norm that follows something else, a map that is used
    twice, a norm of each batch's own statistics, one that drops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, groups=8, bias=False), BatchNormAct2d(8)
        self.norm3 = nn.BatchNorm2d(8)
        self.conv4, self.norm4 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.conv5, self.norm5 = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8)
        self.conv6, self.norm6 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)
        self.conv7, self.norm7 = nn.Conv2d(8, 8, 1), BatchNormAct2d(8, drop_layer=nn.Dropout2d)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        x = self.norm3(torch.relu(x))
        both = self.conv4(x)
        x = self.norm5(self.conv5(both + self.norm4(both)))
        return self.norm7(self.conv7(self.norm6(self.conv6(x))))


class _Layers(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


@pytest.fixture
def layers() -> fx.GraphModule:
    torch.manual_seed(0)
    classifier = Classifier()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
    return fx.GraphModule(classifier, _Layers().trace(classifier)).eval()


def called(layers: fx.GraphModule) -> set[str]:
    return {str(node.target) for node in layers.graph.nodes if node.op == "call_module"}


def test_the_same_numbers_and_gradients(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers)
    fuse_batch_norm(layers)
    assert called(layers) == {*("norm3", "conv4", "norm4", "conv5", "norm5", "conv6", "norm6", "conv7", "norm7")}
    images = torch.randn(2, 3, 16, 16)
    outputs = []
    for each in (plain, layers):
        output = each(images)
        output.square().sum().backward()
        outputs.append(output)
    assert_close(*outputs, atol=1e-5, rtol=1e-5)
    gradients = [{name: value.grad for name, value in each.named_parameters()} for each in (plain, layers)]
    assert_close(*gradients, atol=1e-3, rtol=1e-3)


def test_modules_and_names_of_weights_stay_also_in_copies(layers: fx.GraphModule) -> None:
    names, kinds = list(layers.state_dict()), [type(module) for module in layers.modules()]
    fuse_batch_norm(layers)
    images = torch.randn(1, 3, 16, 16)
    for each in (layers, copy.deepcopy(layers)):
        assert called(each) == called(layers)
        assert torch.equal(each(images), layers(images))
        assert sorted(each.state_dict()) == sorted(names)
        assert sorted(map(str, map(type, each.modules()))) == sorted(map(str, kinds))


def test_weights_that_are_loaded_later_count(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers)
    fuse_batch_norm(layers)
    other = {name: torch.rand_like(value.float()) + 0.5 for name, value in plain.state_dict().items()}
    images = torch.randn(1, 3, 16, 16)
    for each in (plain, layers):
        each.load_state_dict(other)
    assert_close(plain(images), layers(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_rounds_little_more_than_the_layers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64).eval()
    for numbers in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(numbers, 0.1, 3)  # type: ignore[arg-type]
    maps = torch.randn(1, 64, 32, 32).to(dtype)
    fused, layers = conv_with_norm(maps, conv.to(dtype), norm.to(dtype)), norm(conv(maps))
    assert fused.dtype == dtype
    exact = norm.double()(conv.double()(maps.double()))
    errors = [(found.double() - exact).abs().mean() for found in (fused, layers)]
    assert errors[0] < 1.6 * errors[1]  # 1.3; with factors made in `dtype`, 3


def test_double_precision_stays(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers).double()
    fuse_batch_norm(layers.double())
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert_close(plain(images), layers(images), atol=1e-12, rtol=1e-12)
