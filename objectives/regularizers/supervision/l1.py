"""L1 penalty on the weights."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def l1(parameters: list[Tensor]) -> Float[Tensor, ""]:
    """Sum of the absolute weights, which drives small weights to zero; its subgradient at 0 is 0.

    Source: "Regression Shrinkage and Selection via the Lasso" (Tibshirani, 1996).

    >>> l1([torch.tensor([3.0, -4.0]), torch.tensor([[0.5]])])
    tensor(7.5000)
    """
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()
