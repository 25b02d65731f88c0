"""The nuclear norm, the convex surrogate of rank."""

from __future__ import annotations

import torch

from selftune.shapes import Bool, Float, Tensor


def nuclear_norm(
    matrix: Float[Tensor, "out *rest"], mask: Bool[Tensor, "out *rest"] | None = None
) -> Float[Tensor, ""]:
    """Sum of the singular values of a weight, seen as its first axis against all others.

    The gradient is ``U V'`` over the singular values above 1e-12 of the largest, also where singular values are
    zero or equal. For autograd the value is linear in the matrix: second derivatives are missing (zero).

    Args:
        mask: entries that count (True); all by default.

    Source: "Trained Rank Pruning for Efficient Deep Neural Networks" (arXiv 2004.14566, section 3.2); with a mask
    "SaRA: High-Efficient Diffusion Model Fine-tuning with Progressive Sparse Low-Rank Adaptation"
    (arXiv 2409.06633).

    >>> nuclear_norm(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    tensor(7.)
    """
    counted = (matrix if mask is None else matrix * mask).flatten(1)
    with torch.no_grad():
        left, values, right = torch.linalg.svd(counted, full_matrices=False)
        subgradient = (left * (values > 1e-12 * values[0])) @ right
    value: Tensor = (counted * subgradient).sum()
    return value
