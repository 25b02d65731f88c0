"""Replacement of a weight by its low-rank approximation."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def rank_truncation(
    matrix: Float[Tensor, "out *rest"], *, energy: float | Float[Tensor, ""] = 0.9
) -> Float[Tensor, "out *rest"]:
    """Best approximation of the smallest rank that keeps the share ``energy`` of the squared singular values.

    The weight is seen as its first axis against all others.

    Args:
        energy: in (0, 1]; 1 changes nothing but rounding.

    Source: "Trained Rank Pruning for Efficient Deep Neural Networks" (arXiv 2004.14566, section 3.1).

    >>> rank_truncation(torch.diag(torch.tensor([3.0, 1.0])), energy=0.9)
    tensor([[3., 0.],
            [0., 0.]])
    """
    left, values, right = torch.linalg.svd(matrix.flatten(1), full_matrices=False)
    # Double precision, or small directions would be lost in the sum even when all energy is to be kept.
    energies = values.detach().to(torch.float64).square()
    # A direction is kept while the energy of those before it is not enough.
    before = torch.cat([energies.new_zeros(1), energies.cumsum(0)[:-1]])
    kept = before < energy * energies.sum()
    truncated: Tensor = (left * (values * kept)) @ right
    return truncated.reshape(matrix.shape)
