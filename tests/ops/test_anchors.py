"""Anchors: their sizes, shapes, positions and order."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import AnchorGenerator

from frcnn.ops.anchors import anchor_grid, base_anchors


def sides(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    return width, height


def test_base_anchors_have_exact_areas_and_ratios_by_ratio_then_size() -> None:
    width, height = sides(base_anchors((128.0, 256.0, 512.0), (0.5, 1.0, 2.0)))
    assert_close(width * height, torch.tensor([128.0, 256, 512]).square().repeat(3))
    assert_close(height / width, torch.tensor([0.5, 1, 2]).repeat_interleave(3))


def test_base_anchors_are_centered_on_the_origin() -> None:
    base = base_anchors((3.0, 50.5), (0.3, 1.7))
    assert_close(base[:, :2], -base[:, 2:])


def test_ratio_is_height_over_width() -> None:
    assert_close(base_anchors([16.0], [4.0]), torch.tensor([[-4.0, -16, 4, 16]]))  # tall
    assert_close(base_anchors([16.0], [0.25]), torch.tensor([[-16.0, -4, 16, 4]]))  # wide


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_grid_goes_by_row_then_column_then_anchor(offset: float) -> None:
    base = base_anchors((10.0, 20.0), (1.0,))
    grid = anchor_grid(base, (2, 3), stride=(16, 16), offset=offset)
    expected = [
        [(column + offset) * 16, (row + offset) * 16, size]
        for row in range(2)
        for column in range(3)
        for size in (10.0, 20.0)
    ]
    centers = (grid[:, :2] + grid[:, 2:]) / 2
    width, height = sides(grid)
    assert_close(torch.cat((centers, width[:, None]), dim=1), torch.tensor(expected))
    assert_close(height, width)


@pytest.mark.parametrize(("sizes", "ratios"), [(1, 1), (2, 1), (5, 3), (4, 4)])
def test_any_number_of_anchors_per_cell(sizes: int, ratios: int) -> None:
    base = base_anchors([8.0 + i for i in range(sizes)], [1.0 + i for i in range(ratios)])
    assert base.shape == (sizes * ratios, 4)
    grid = anchor_grid(base, (5, 7), stride=(8, 8), offset=0.5)
    assert grid.shape == (5 * 7 * sizes * ratios, 4)
    assert grid.unique(dim=0).shape == grid.shape


def test_grid_of_an_empty_map_is_empty() -> None:
    assert anchor_grid(base_anchors([16.0], [1.0]), (0, 3), stride=(16, 16), offset=0.5).shape == (0, 4)


def test_the_stride_may_differ_by_direction() -> None:
    grid = anchor_grid(base_anchors([2.0], [1.0]), (2, 2), stride=(10, 30), offset=0.0)
    assert_close((grid[:, :2] + grid[:, 2:]) / 2, torch.tensor([[0.0, 0], [30, 0], [0, 10], [30, 10]]))


def test_rounded_anchors_equal_torchvisions() -> None:
    sizes, ratios = (32, 64, 128, 256, 512), (0.5, 1.0, 2.0)
    expected = AnchorGenerator().generate_anchors(sizes, ratios)
    assert_close(base_anchors(sizes, ratios, rounded=True), expected)
    assert not torch.equal(base_anchors(sizes, ratios), expected)
