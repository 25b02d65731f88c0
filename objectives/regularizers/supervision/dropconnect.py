"""DropConnect: dropout of weights."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def dropconnect(
    weight: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, ""] = 0.5,
) -> Float[Tensor, "*shape"]:
    """Zeroes weights whose draw is below ``rate`` and divides the others by ``1 - rate``.

    At evaluation the weight itself, which is its mean, takes the place of the paper's moment matching.

    Args:
        uniform: draws from [0, 1), one per weight and forward pass.
        rate: in [0, 1).

    Source: "Regularization of Neural Networks using DropConnect" (Wan et al., 2013).

    >>> import torch
    >>> dropconnect(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]), 0.5)
    tensor([0., 2., 2.])
    """
    return weight * ((uniform >= rate).to(weight.dtype) / (1 - rate))
