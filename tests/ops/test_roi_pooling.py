"""RoI pooling, against loops over bins and against torchvision."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from oracles import roi_pooling as oracle
from torch import Tensor
from torch.testing import assert_close

from frcnn.fast.roi_align import roi_align_by_cells
from frcnn.ops.roi_pooling import RoiAlign, assign_levels, pool_rois, roi_align, roi_max_pool
from frcnn.types import Level

STRIDE = 16

# Input pixels of a frame of 160 x 192; inside, across the border, one cell, the whole frame, thin.
ROIS = torch.tensor(
    [
        [[3.0, 5, 100, 90], [-20, -30, 60, 50], [33, 33, 47, 47]],
        [[0, 0, 192, 160], [70, 0.5, 74, 159], [150, 120, 260, 200]],
    ]
)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def numbered_rois() -> Tensor:
    return torch.tensor(numbered(ROIS))


def numbered(rois: Tensor) -> list[list[float]]:
    return [[image, *roi] for image, of_image in enumerate(rois.tolist()) for roi in of_image]


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("align", [roi_align, roi_align_by_cells])
def test_roi_align_equals_a_loop_over_bins(features: Tensor, size: int, offset: float, align: RoiAlign) -> None:
    pooled = pool_rois([features], ROIS, levels=[Level(STRIDE, offset)], size=size, pool=align)
    expected = oracle.roi_align(features.double().numpy(), numbered(ROIS), size, STRIDE, offset)
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 6])
def test_roi_max_pool_equals_a_loop_over_bins(features: Tensor, size: int, offset: float) -> None:
    pooled = pool_rois([features], ROIS, levels=[Level(STRIDE, offset)], size=size, pool=roi_max_pool)
    expected = oracle.roi_max_pool(features.numpy(), numbered(ROIS), size, STRIDE, offset)
    np.testing.assert_array_equal(pooled.numpy(), expected)


def test_both_equal_torchvision_where_cells_stand_for_their_centers(features: Tensor, numbered_rois: Tensor) -> None:
    rois = numbered_rois
    aligned = torchvision.ops.roi_align(features, rois, 7, 1 / STRIDE, aligned=True)
    assert_close(roi_align(features, numbered_rois, 7, STRIDE), aligned)
    largest = torchvision.ops.roi_pool(features, rois, 7, 1 / STRIDE)
    assert_close(roi_max_pool(features, numbered_rois, 7, STRIDE), largest)


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
def test_roi_align_of_a_plane_gives_the_centers_of_the_bins(offset: float) -> None:
    # A cell's value is the pixel that it stands for, so a bin's value is the pixel of its own center.
    pixels = (torch.arange(20) + offset) * 8
    features = torch.stack(torch.meshgrid(pixels, pixels, indexing="ij"))[None]  # (1, 2, 20, 20): y, x
    rois = torch.tensor([[[20.0, 40, 60, 120]]])
    pooled = pool_rois([features], rois, levels=[Level(8, offset)], size=4, pool=roi_align)
    assert_close(pooled[0, 0], torch.tensor([50.0, 70, 90, 110])[:, None].expand(4, 4))
    assert_close(pooled[0, 1], torch.tensor([25.0, 35, 45, 55])[None].expand(4, 4))


def test_roi_max_pool_by_hand() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = roi_max_pool(features, torch.tensor([[0.0, 0, 0, 48, 48]]), 2, 16)
    assert pooled.tolist() == [[[[5, 7], [13, 15]]]]


@pytest.mark.parametrize("pool", [roi_align, roi_align_by_cells, roi_max_pool])
def test_bfloat16_features_are_pooled_in_float32(
    pool: Callable[..., Tensor], features: Tensor, numbered_rois: Tensor
) -> None:
    rounded = features.bfloat16()
    pooled = pool(rounded, numbered_rois, 7, STRIDE)
    assert_close(pooled, pool(rounded.float(), numbered_rois, 7, STRIDE))


@pytest.mark.parametrize("pool", [roi_align, roi_align_by_cells, roi_max_pool])
def test_no_rois(pool: Callable[..., Tensor], features: Tensor) -> None:
    assert pool(features, torch.zeros(0, 5), 7, STRIDE).shape == (0, 3, 7, 7)


# ---------------------------------------------------------------------------------------------------------- pyramids

STRIDES = (4, 8, 16, 32)
LEVELS = tuple(Level(stride, 0.5) for stride in STRIDES)


def pyramid(frame: int = 512) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, frame // stride, frame // stride, generator=generator) for stride in (*STRIDES, 64)]


def squares(*sides: float) -> Tensor:
    return torch.tensor([[8.0, 8, 8 + side, 8 + side] for side in sides])


@pytest.mark.parametrize(
    ("side", "level"),
    [(1, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (895, 3), (896, 3), (5000, 3)],
)
def test_levels_are_assigned_as_in_the_paper(side: float, level: int) -> None:
    """A RoI of ImageNet's 224 x 224 goes to the level of stride 16, half the side one level finer."""
    assert assign_levels(squares(side), STRIDES).tolist() == [level]


def test_levels_equal_torchvisions() -> None:
    mapper = torchvision.ops.poolers.LevelMapper(2, 5)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2000, 2, generator=generator) * 300
    rois = torch.cat((corners, corners + torch.rand(2000, 2, generator=generator) * 1000), dim=1)
    assert_close(assign_levels(rois, STRIDES), mapper([rois]))


def test_levels_of_equal_stride_and_empty_rois() -> None:
    assert assign_levels(squares(0, 10, 900), (32, 32)).tolist() == [0, 0, 0]
    assert assign_levels(squares(0), STRIDES).tolist() == [0]
    assert assign_levels(torch.zeros(0, 4), STRIDES).shape == (0,)


def test_each_roi_is_pooled_from_its_level() -> None:
    features = pyramid()
    rois = squares(30, 150, 300, 470, 60).expand(2, 5, 4)
    pooled = pool_rois(features, rois, levels=LEVELS, size=7, pool=roi_align).view(2, 5, 3, 7, 7)
    for number, level in enumerate([0, 1, 2, 3, 0]):
        for image in range(2):
            roi = torch.cat((torch.tensor([float(image)]), rois[image, number]))[None]
            assert_close(pooled[image, number], roi_align(features[level], roi, 7, STRIDES[level])[0])


def test_pooling_of_a_pyramid_equals_torchvisions() -> None:
    """torchvision's corner convention: a cell stands for its corner, a RoI is at least one cell wide."""
    features = pyramid()
    rois = squares(2, 30, 150, 300, 470)
    pooler = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio=2)
    expected = pooler({str(i): one for i, one in enumerate(features)}, [rois, rois], [(512, 512)] * 2)
    levels = [Level(stride, 0.0) for stride in STRIDES]
    pool = partial(roi_align, sampling_ratio=2)
    pooled = pool_rois(features, rois.expand(2, 5, 4), levels=levels, size=7, pool=pool, min_cells=1.0)
    assert_close(pooled, expected, atol=1e-5, rtol=1e-5)


def test_min_cells_widens_small_rois_only() -> None:
    features = pyramid()
    together = squares(3, 100).expand(2, 2, 4)
    pooled = pool_rois(features, together, levels=LEVELS, size=2, pool=roi_align, min_cells=2.0).view(2, 2, 3, 2, 2)
    wide = torch.tensor([[0.0, 8, 8, 16, 16], [1, 8, 8, 16, 16]])  # 2 cells of 4 pixels
    assert_close(pooled[:, 0], roi_align(features[0], wide, 2, STRIDES[0]))
    same = torch.tensor([[0.0, 8, 8, 108, 108], [1, 8, 8, 108, 108]])
    assert_close(pooled[:, 1], roi_align(features[0], same, 2, STRIDES[0]))


def test_gradients_reach_the_levels_that_were_pooled_and_no_other() -> None:
    features = [one.requires_grad_() for one in pyramid()]
    pool_rois(features, squares(30, 300).expand(2, 2, 4), levels=LEVELS, size=7, pool=roi_align).sum().backward()
    assert [one.grad is not None and bool(one.grad.any()) for one in features] == [True, False, True, False, False]
