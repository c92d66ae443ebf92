"""Batch norm that is part of the convolution before it, against batch norm as a layer."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.testing import assert_close

from frcnn.nn.batch_norm import fold_batch_norm, unfold_batch_norm


class Classifier(nn.Module):
    """With every case: a bias, groups, an activation inside, a norm that follows something else, a map that is used
    twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, groups=8, bias=False), BatchNormAct2d(8)
        self.norm3 = nn.BatchNorm2d(8)
        self.conv4, self.norm4 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.conv5, self.norm5 = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        x = self.norm3(torch.relu(x))
        both = self.conv4(x)
        return self.norm5(self.conv5(both + self.norm4(both)))


class _Layers(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


@pytest.fixture
def layers() -> fx.GraphModule:
    torch.manual_seed(0)
    classifier = Classifier()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            for numbers in (module.running_mean, module.weight, module.bias):
                nn.init.normal_(numbers)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return fx.GraphModule(classifier, _Layers().trace(classifier)).eval()


def called(layers: fx.GraphModule) -> set[str]:
    return {str(node.target) for node in layers.graph.nodes if node.op == "call_module"}


def test_the_same_numbers_and_gradients(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers)
    fold_batch_norm(layers)
    assert called(layers) == {"norm3", "conv4", "norm4", "conv5", "norm5"}
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
    fold_batch_norm(layers)
    for each in (layers, copy.deepcopy(layers)):
        assert sorted(each.state_dict()) == sorted(names)
        assert sorted(map(str, map(type, each.modules()))) == sorted(map(str, kinds))


def test_weights_that_are_loaded_later_count(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers)
    fold_batch_norm(layers)
    other = {name: torch.rand_like(value.float()) + 0.5 for name, value in plain.state_dict().items()}
    images = torch.randn(1, 3, 16, 16)
    for each in (plain, layers):
        each.load_state_dict(other)
    assert_close(plain(images), layers(images), atol=1e-4, rtol=1e-4)


def test_unfolding_gives_the_layers_back(layers: fx.GraphModule) -> None:
    plain = copy.deepcopy(layers)
    fold_batch_norm(layers)
    unfold_batch_norm(nn.Sequential(layers))
    assert [(node.op, node.target) for node in layers.graph.nodes] == [
        (node.op, node.target) for node in plain.graph.nodes
    ]
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(plain(images), layers(images))
