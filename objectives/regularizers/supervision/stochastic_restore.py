"""Stochastic restore: a small share of the weights goes back to the source."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def stochastic_restore(
    parameter: Float[Tensor, "*shape"],
    source: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, ""] = 0.01,
) -> Float[Tensor, "*shape"]:
    """Replaces weights whose draw is below ``rate`` by those of the source, which bounds the drift for ever.

    Args:
        source: weights to return to; no gradient flows to them.
        uniform: draws from [0, 1), one per weight.
        rate: share of weights to restore, in [0, 1].

    Source: "Continual Test-Time Domain Adaptation" (arXiv 2203.13591).

    >>> import torch
    >>> stochastic_restore(torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([0.5, 0.001]))
    tensor([1., 0.])
    """
    return source.detach().where(uniform < rate, parameter)
