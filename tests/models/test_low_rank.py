"""The decomposition of a thin product is that of the product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankselect.models.low_rank import low_rank_svd


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**20))
def test_it_is_that_of_the_product(d_out, d_in, rank, seed):
    generator = torch.Generator().manual_seed(seed)
    b, a = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((d_out, rank), (rank, d_in)))
    u, sigma, vh = low_rank_svd(b, a)
    k = min(d_out, d_in, rank)
    assert (u.shape, sigma.shape, vh.shape) == ((d_out, k), (k,), (k, d_in))
    torch.testing.assert_close((u * sigma) @ vh, b @ a)
    torch.testing.assert_close(sigma, torch.linalg.svdvals(b @ a)[:k], atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(u.T @ u, torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(vh @ vh.T, torch.eye(k, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_computes_in_float32_at_least(dtype):
    b = torch.ones(3, 1, dtype=dtype)
    assert {each.dtype for each in low_rank_svd(b, b.T)} == {torch.float32}


def test_zeros_stay_zeros():
    _, sigma, _ = low_rank_svd(torch.zeros(4, 2), torch.ones(2, 5))
    assert sigma.tolist() == [0, 0]
