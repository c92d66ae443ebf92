"""The RPN: what it says at a place is said of the anchors at that place."""

import pytest
import torch

from frcnn.config import AnchorSettings
from frcnn.nn.rpn import RPN


def rpn(scales: tuple[float, ...] = (1.0, 2.0), ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> RPN:
    torch.manual_seed(0)
    return RPN(4, 8, stride=16, offset=0.25, anchors=AnchorSettings(scales=scales, aspect_ratios=ratios))


@pytest.mark.parametrize(
    ("scales", "ratios"), [((8.0,), (1.0,)), ((1.0, 2.0), (0.5, 1.0, 2.0)), ((1, 2, 4, 8), (1, 2))]
)
def test_widths_follow_the_number_of_anchors(scales: tuple[float, ...], ratios: tuple[float, ...]) -> None:
    count = 5 * 7 * len(scales) * len(ratios)
    output = rpn(scales, ratios)(torch.rand(2, 4, 5, 7))
    assert output.logits.shape == (2, count)
    assert output.deltas.shape == (2, count, 4)
    assert output.anchors.shape == (count, 4)


@torch.no_grad()
def test_each_channel_speaks_of_one_anchor_of_its_cell() -> None:
    network = rpn()
    for layer in (network.objectness, network.deltas):
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(len(layer.bias)))
    output = network(torch.rand(1, 4, 2, 3))
    torch.testing.assert_close(output.logits.view(6, 6), torch.arange(6.0).expand(6, 6))
    torch.testing.assert_close(output.deltas.view(6, 6, 4), torch.arange(24.0).view(6, 4).expand(6, 6, 4))
    shapes = output.anchors[:, 2:] - output.anchors[:, :2]
    torch.testing.assert_close(shapes.view(6, 6, 2), shapes[:6].expand(6, 6, 2))


@torch.no_grad()
def test_a_cell_speaks_of_the_anchors_that_sit_on_it() -> None:
    network = rpn()
    network.conv.weight.zero_()
    network.conv.weight[:, :, 1, 1] = 1
    network.objectness.weight.fill_(1)
    features = torch.zeros(1, 4, 5, 7)
    features[0, :, 3, 2] = 1
    output = network(features)
    spoken_of = output.anchors[output.logits[0] > output.logits.min()]
    assert len(spoken_of) == 6
    centres = (spoken_of[:, :2] + spoken_of[:, 2:]) / 2
    torch.testing.assert_close(centres, torch.tensor([2.25 * 16, 3.25 * 16]).expand(6, 2))


def test_new_layers_start_as_in_the_paper() -> None:
    network = RPN(64, 64, stride=16, offset=0.5, anchors=AnchorSettings())
    torch.testing.assert_close(network.conv.weight.std(), torch.tensor(0.01), rtol=0.05, atol=0)
    for layer in (network.conv, network.objectness, network.deltas):
        assert layer.bias is not None
        assert not layer.bias.any()
