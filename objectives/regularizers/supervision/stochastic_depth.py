"""Stochastic depth: residual branches skipped at random."""

from __future__ import annotations

from selftune.regularizer import per_example
from selftune.shapes import Float, Tensor


def stochastic_depth(
    residual: Float[Tensor, "batch *shape"],
    uniform: Float[Tensor, "batch"],
    rate: float | Float[Tensor, "*rate"],
) -> Float[Tensor, "batch *shape"]:
    """Zeroes an example's whole residual branch where its draw is below ``rate``, else divides by ``1 - rate``.

    The paper scales at test time instead; the expectation is the same.

    Args:
        uniform: draws from [0, 1), one per example.
        rate: in [0, 1); one for all or one per example. Under the linear rule block l of L gets ``rate * l / L``.

    Source: "Deep Networks with Stochastic Depth" (arXiv 1603.09382, equations 2 and 4).

    >>> import torch
    >>> stochastic_depth(torch.ones(2, 2), torch.tensor([0.1, 0.9]), 0.5)
    tensor([[0., 0.],
            [2., 2.]])
    """
    scale = (uniform >= rate).to(residual.dtype) / (1 - rate)
    return residual * per_example(scale, residual)
