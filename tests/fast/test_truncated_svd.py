"""Truncated SVD."""

import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from frcnn.fast.svd import truncated_svd

SIDES = st.integers(1, 12)


def matrix(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(SIDES, SIDES, st.integers(0, 2**31))
def test_full_rank_gives_the_matrix(rows: int, columns: int, seed: int) -> None:
    given_ = matrix(rows, columns, seed)
    left, right = truncated_svd(given_, min(rows, columns))
    assert_close(left @ right, given_, rtol=0, atol=1e-5)


@given(SIDES, SIDES, st.integers(0, 2**31), st.data())
def test_the_error_is_the_norm_of_the_singular_values_left_out(
    rows: int, columns: int, seed: int, data: st.DataObject
) -> None:
    """Eckart & Young 1936: no matrix of this rank is nearer."""
    given_ = matrix(rows, columns, seed, torch.float64)
    rank = data.draw(st.integers(1, min(rows, columns)))
    left, right = truncated_svd(given_, rank)
    assert (left.shape, right.shape) == ((rows, rank), (rank, columns))
    dropped = np.linalg.svd(given_.numpy(), compute_uv=False)[rank:]
    error = torch.linalg.matrix_norm(given_ - left @ right)
    np.testing.assert_allclose(error.item(), np.linalg.norm(dropped), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_it_is_that_of_numpy(shape: tuple[int, int]) -> None:
    given_ = matrix(*shape, seed=0)
    u, s, vt = np.linalg.svd(given_.numpy().astype(np.float64), full_matrices=False)
    left, right = truncated_svd(given_, 4)
    assert_close(left @ right, torch.from_numpy(u[:, :4] * s[:4] @ vt[:4]).float(), rtol=0, atol=1e-5)
    orthonormal, scaled = (left, right.T) if shape == (6, 9) else (right.T, left)
    assert_close(orthonormal.T @ orthonormal, torch.eye(4), rtol=0, atol=1e-6)
    assert_close(torch.linalg.vector_norm(scaled, dim=0).flip(0), torch.from_numpy(s[:4]).float(), rtol=1e-5, atol=0)


def test_a_matrix_of_low_rank_needs_no_more() -> None:
    given_ = matrix(8, 3, seed=1) @ matrix(3, 10, seed=2)
    left, right = truncated_svd(given_, 3)
    assert_close(left @ right, given_, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_factors_have_the_matrixs_precision(dtype: torch.dtype) -> None:
    assert {factor.dtype for factor in truncated_svd(matrix(4, 6, 0, dtype), 2)} == {dtype}


@pytest.mark.parametrize("rank", [-1, 0, 5])
def test_there_is_no_such_rank(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"rank {rank}: of a 4 x 6 matrix, 1 to 4"):
        truncated_svd(matrix(4, 6, 0), rank)
