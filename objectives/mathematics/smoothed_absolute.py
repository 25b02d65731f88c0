"""The smoothed absolute value of the imaging and sparsity priors."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def smoothed_absolute(
    x: Float[Tensor, "*shape"], smoothing: float | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``sqrt(x^2 + smoothing^2)``, which is ``|x|`` without smoothing; derivatives where both are zero are zero.

    >>> smoothed_absolute(torch.tensor([-2.0, 3.0]), torch.tensor([0.0, 4.0]))
    tensor([2., 5.])
    """
    return safe_root(x.square() + smoothing**2)


def safe_root(squares: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root whose derivatives at zero are zero.

    >>> safe_root(torch.tensor([0.0, 4.0]))
    tensor([0., 2.])
    """
    positive = squares > 0
    # the inner where keeps the infinite slope at zero out of the backward pass
    return torch.where(positive, torch.where(positive, squares, 1).sqrt(), 0)
