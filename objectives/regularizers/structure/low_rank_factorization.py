"""A weight matrix as the product of two thin ones, from its truncated singular value decomposition."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def low_rank_factorization(
    weight: Float[Tensor, "out in"], *, rank: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """Factors ``left`` and ``right`` whose product is the best approximation of the weight of that rank.

    Each carries the square roots of the singular values. Signs are fixed: in each column of ``left`` the entry of
    largest magnitude (the first of equals) is positive.

    Args:
        rank: from 1 to min(out, in).

    Raises:
        ValueError: if the rank is out of range.

    Source: "PELA: Learning Parameter-Efficient Models with Low-Rank Approximation" (arXiv 2310.10700).

    >>> left, right = low_rank_factorization(torch.diag(torch.tensor([4.0, 1.0])), rank=1)
    >>> left, right
    (tensor([[2.],
            [0.]]), tensor([[2., 0.]]))
    """
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(
            f"low_rank_factorization needs a rank from 1 to {min(weight.shape)} for a weight of shape "
            f"{tuple(weight.shape)}, got {rank}."
        )
    vectors, values, covectors = torch.linalg.svd(weight, full_matrices=False)
    vectors, values, covectors = vectors[:, :rank], values[:rank], covectors[:rank]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    roots = values.sqrt() * largest.sign()
    return vectors * roots, roots[:, None] * covectors
