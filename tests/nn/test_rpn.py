"""The RPN: its outputs at a cell belong to the anchors of that cell."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from frcnn.config import AnchorSettings
from frcnn.config.rules import TORCHVISION
from frcnn.nn.rpn import RPN
from frcnn.types import Level

FRAME = (80, 112)


def rpn(scales: tuple[float, ...] = (1.0, 2.0), ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> RPN:
    torch.manual_seed(0)
    return RPN(4, 8, 1, [Level(16, 0.25)], AnchorSettings(scales=scales, aspect_ratios=ratios))


@pytest.mark.parametrize(
    ("scales", "ratios"), [((8.0,), (1.0,)), ((1.0, 2.0), (0.5, 1.0, 2.0)), ((1, 2, 4, 8), (1, 2))]
)
def test_widths_follow_the_number_of_anchors(scales: tuple[float, ...], ratios: tuple[float, ...]) -> None:
    count = 5 * 7 * len(scales) * len(ratios)
    output = rpn(scales, ratios)([torch.rand(2, 4, 5, 7)], FRAME)
    assert output.logits.shape == (2, count)
    assert output.deltas.shape == (2, count, 4)
    assert output.anchors.shape == (count, 4)


@torch.no_grad()
def test_each_channel_belongs_to_one_anchor_of_its_cell() -> None:
    network = rpn()
    for layer in (network.objectness, network.deltas):
        layer.weight.zero_()
        layer.bias.copy_(torch.arange(len(layer.bias)))
    output = network([torch.rand(1, 4, 2, 3)], FRAME)
    torch.testing.assert_close(output.logits.view(6, 6), torch.arange(6.0).expand(6, 6))
    torch.testing.assert_close(output.deltas.view(6, 6, 4), torch.arange(24.0).view(6, 4).expand(6, 6, 4))
    shapes = output.anchors[:, 2:] - output.anchors[:, :2]
    torch.testing.assert_close(shapes.view(6, 6, 2), shapes[:6].expand(6, 6, 2))


@torch.no_grad()
def test_a_cell_predicts_the_anchors_centered_on_it() -> None:
    network = rpn()
    network.convs[0].weight.zero_()
    network.convs[0].weight[:, :, 1, 1] = 1
    network.objectness.weight.fill_(1)
    features = torch.zeros(1, 4, 5, 7)
    features[0, :, 3, 2] = 1
    output = network([features], FRAME)
    spoken_of = output.anchors[output.logits[0] > output.logits.min()]
    assert len(spoken_of) == 6
    centers = (spoken_of[:, :2] + spoken_of[:, 2:]) / 2
    torch.testing.assert_close(centers, torch.tensor([2.25 * 16, 3.25 * 16]).expand(6, 2))


def test_new_layers_start_as_in_the_paper() -> None:
    network = RPN(64, 64, 2, [Level(16, 0.5)], AnchorSettings())
    torch.testing.assert_close(network.convs[0].weight.std(), torch.tensor(0.01), rtol=0.05, atol=0)
    for layer in (*network.convs, network.objectness, network.deltas):
        assert layer.bias is not None
        assert not layer.bias.any()


PYRAMID = (Level(4, 0.125), Level(8, 0.25), Level(16, 0.5))


def maps(frame: tuple[int, int] = FRAME, channels: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, -(-frame[0] // stride), -(-frame[1] // stride), generator=generator)
        for stride, _ in PYRAMID
    ]


def test_every_level_goes_through_the_same_layers() -> None:
    torch.manual_seed(0)
    network = RPN(4, 8, 2, PYRAMID, AnchorSettings())
    together = network(maps(), FRAME)
    start = 0
    for features, level, count in zip(maps(), PYRAMID, together.per_level, strict=True):
        alone = RPN(4, 8, 2, [level], AnchorSettings())
        alone.load_state_dict(network.state_dict())
        one = alone([features], FRAME)
        part = slice(start, start + count)
        torch.testing.assert_close(together.logits[:, part], one.logits)
        torch.testing.assert_close(together.deltas[:, part], one.deltas)
        torch.testing.assert_close(together.anchors[part], one.anchors)
        start += count
    assert start == together.logits.shape[1]


def test_without_a_base_size_each_level_has_anchors_of_its_stride() -> None:
    network = RPN(4, 8, 1, PYRAMID, AnchorSettings(base_size=None, scales=(8.0,), aspect_ratios=(1.0,)))
    output = network(maps(), FRAME)
    sides = [part[0, 2] - part[0, 0] for part in output.anchors.split(output.per_level)]
    assert sides == [32, 64, 128]


def test_anchors_spread_over_the_frame_equal_torchvisions() -> None:
    """The last map is ceil(frame / 16) cells, so that torchvision's spacing, frame // cells, is not its stride."""
    settings = AnchorSettings(base_size=None, scales=(8.0,))
    frame = (88, 120)
    network = RPN(4, 8, 1, [Level(stride, 0.0) for stride, _ in PYRAMID], settings, TORCHVISION)
    output = network(maps(frame), frame)
    images = ImageList(torch.zeros(1, 3, *frame), [frame])
    theirs = AnchorGenerator(((32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 3)(images, maps(frame))
    torch.testing.assert_close(output.anchors, theirs[0])
    assert output.anchors[-1, 0] - output.anchors[-4, 0] == 120 // 8 == 15
