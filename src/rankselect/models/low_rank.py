"""The singular value decomposition of a product of two thin matrices, without the product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["low_rank_svd"]


def low_rank_svd(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose b @ a, of which the rank is at most r.

    With b = Q₁ R₁ and aᵀ = Q₂ R₂, the singular values are those of the small matrix R₁ R₂ᵀ: the cost is
    (d_out + d_in) r² instead of d_out d_in min(d_out, d_in).

    Args:
        b: (d_out, r).
        a: (r, d_in).

    Returns:
        u (d_out, k), sigma (k,) with the largest first, and vh (k, d_in), with k = min(r, d_out, d_in), in float32 or
        in the wider dtype of the two.

    Example:
        >>> u, sigma, vh = low_rank_svd(torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0, 2.0]]))
        >>> sigma, ((u * sigma) @ vh)[:, 1]
        (tensor([10.]), tensor([6., 8.]))
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    q1, r1 = torch.linalg.qr(b.to(dtype))
    q2, r2 = torch.linalg.qr(a.to(dtype).mT)
    u, sigma, vh = torch.linalg.svd(r1 @ r2.mT, full_matrices=False)
    return q1 @ u, sigma, vh @ q2.mT
