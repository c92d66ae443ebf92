"""RoIAlign as a sum over cells, against the plain one."""

import unittest.mock

import pytest
import strategies
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from frcnn.fast import roi_align as fast
from frcnn.fast.roi_align import roi_align_by_cells
from frcnn.ops.roi_pooling import roi_align

STRIDE = 16


@pytest.mark.parametrize("samples", [None, 1, 2, 3])
@given(
    rois=strategies.boxes(),
    inverted=st.sets(st.integers(0, 5)),
    cells_at_once=st.sampled_from([1, fast._CELLS_AT_ONCE]),
)
def test_the_same_features_and_gradients(
    rois: Tensor, inverted: set[int], cells_at_once: int, samples: int | None
) -> None:
    for index in inverted & set(range(len(rois))):
        rois[index] = rois[index, [2, 3, 0, 1]]
    features = torch.randn(1, 5, 9, 14, generator=torch.Generator().manual_seed(0))
    rows = torch.cat((torch.zeros(len(rois), 1), rois), dim=1)
    weights = torch.randn(len(rois), 5, 7, 7, generator=torch.Generator().manual_seed(1))
    results = []
    for align in (roi_align_by_cells, roi_align):
        own = features.clone().requires_grad_()
        with unittest.mock.patch.object(fast, "_CELLS_AT_ONCE", cells_at_once):
            pooled = align(own, rows, 7, STRIDE, sampling_ratio=samples)
        (pooled * weights).sum().backward()
        results.append((pooled.detach(), own.grad))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_rois_that_are_not_finite_do_not_raise(value: float) -> None:
    """If training diverges, the check of the loss reports it."""
    rois = torch.tensor([[0.0, value, 0, value, 50], [0.0, 0, 0, value, 50]])
    roi_align_by_cells(torch.randn(2, 3, 10, 12), rois, 7, STRIDE)
