"""Fish: weights move part of the way that inner steps, one per domain, have gone."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def fish(
    weights: Float[Tensor, "parameters"],
    inner_weights: Float[Tensor, "parameters"],
    step: float | Float[Tensor, ""] = 0.5,
) -> Float[Tensor, "parameters"]:
    """``(1 - step) * weights + step * inner_weights``.

    The inner weights start at the weights and take one step of the optimizer on every domain's loss in turn.

    Args:
        step: in [0, 1].

    Source: "Gradient Matching for Domain Generalization" (arXiv 2104.09937, algorithm 1).

    >>> import torch
    >>> fish(torch.zeros(1), torch.ones(1), step=0.25)
    tensor([0.2500])
    """
    return (1 - step) * weights + step * inner_weights
