"""RoI pooling, against loops over bins and against torchvision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from oracles import roi_pooling as oracle
from torch import Tensor
from torch.testing import assert_close

from frcnn.ops.roi_pooling import roi_align, roi_max_pool

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


def numbered(rois: Tensor) -> list[list[float]]:
    return [[image, *roi] for image, of_image in enumerate(rois.tolist()) for roi in of_image]


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_roi_align_equals_a_loop_over_bins(features: Tensor, size: int, offset: float) -> None:
    pooled = roi_align(features, ROIS, size=size, stride=STRIDE, offset=offset)
    expected = oracle.roi_align(features.double().numpy(), numbered(ROIS), size, STRIDE, offset)
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 6])
def test_roi_max_pool_equals_a_loop_over_bins(features: Tensor, size: int, offset: float) -> None:
    pooled = roi_max_pool(features, ROIS, size=size, stride=STRIDE, offset=offset)
    expected = oracle.roi_max_pool(features.numpy(), numbered(ROIS), size, STRIDE, offset)
    np.testing.assert_array_equal(pooled.numpy(), expected)


def test_both_equal_torchvision_where_cells_stand_for_their_centres(features: Tensor) -> None:
    rois = torch.tensor(numbered(ROIS))
    aligned = torchvision.ops.roi_align(features, rois, 7, 1 / STRIDE, aligned=True)
    assert_close(roi_align(features, ROIS, size=7, stride=STRIDE, offset=0.5), aligned)
    largest = torchvision.ops.roi_pool(features, rois, 7, 1 / STRIDE)
    assert_close(roi_max_pool(features, ROIS, size=7, stride=STRIDE, offset=0.5), largest)


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5])
def test_roi_align_of_a_plane_gives_the_centres_of_the_bins(offset: float) -> None:
    # A cell's value is the pixel that it stands for, so a bin's value is the pixel of its own centre.
    pixels = (torch.arange(20) + offset) * 8
    features = torch.stack(torch.meshgrid(pixels, pixels, indexing="ij"))[None]  # (1, 2, 20, 20): y, x
    pooled = roi_align(features, torch.tensor([[[20.0, 40, 60, 120]]]), size=4, stride=8, offset=offset)
    assert_close(pooled[0, 0], torch.tensor([50.0, 70, 90, 110])[:, None].expand(4, 4))
    assert_close(pooled[0, 1], torch.tensor([25.0, 35, 45, 55])[None].expand(4, 4))


def test_roi_max_pool_by_hand() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = roi_max_pool(features, torch.tensor([[[0.0, 0, 48, 48]]]), size=2, stride=16, offset=0.5)
    assert pooled.tolist() == [[[[5, 7], [13, 15]]]]


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
def test_bfloat16_features_are_pooled_in_float32(pool: Callable[..., Tensor], features: Tensor) -> None:
    rounded = features.bfloat16()
    pooled = pool(rounded, ROIS, size=7, stride=STRIDE, offset=0.5)
    assert_close(pooled, pool(rounded.float(), ROIS, size=7, stride=STRIDE, offset=0.5))


@pytest.mark.parametrize("pool", [roi_align, roi_max_pool])
def test_no_rois(pool: Callable[..., Tensor], features: Tensor) -> None:
    assert pool(features, torch.zeros(2, 0, 4), size=7, stride=STRIDE, offset=0.5).shape == (0, 3, 7, 7)
