"""Dynamic sparse training: a fixed number of active weights moves to where it is most useful."""

from __future__ import annotations

import torch

from selftune.shapes import Bool, Float, Int, Tensor


def dynamic_sparse_training(
    weight: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
    growth_scores: Float[Tensor, "*shape"],
    *,
    drop_fraction: float | Float[Tensor, ""],
) -> Bool[Tensor, "*shape"]:
    """New mask of active weights: the smallest active ones are dropped, and as many of the highest score grown.

    floor(drop_fraction * active) weights are dropped; the just dropped compete for growth too. Of equal weights or
    scores the smaller flat index stays or grows.

    Args:
        mask: True where a weight is active.
        growth_scores: magnitude of the dense gradient, of its running average, or random draws.
        drop_fraction: in [0, 1].

    Source: "Rigging the Lottery: Making All Tickets Winners" (arXiv 1911.11134, Algorithm 1); compared in
    "Continual Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates"
    (arXiv 2308.14831).

    >>> weight, mask = torch.tensor([0.1, -3.0, 0.0, 0.0]), torch.tensor([True, True, False, False])
    >>> dynamic_sparse_training(weight, mask, torch.tensor([0.0, 9.0, 1.0, 2.0]), drop_fraction=0.5)
    tensor([False,  True, False,  True])
    """
    active = mask.sum()
    # Double precision: in single, the product is no exact count beyond sixteen million weights.
    dropped = torch.floor(torch.as_tensor(drop_fraction, dtype=torch.float64, device=mask.device) * active)
    kept = _largest(weight.detach().abs(), mask, active - dropped)
    return kept | _largest(growth_scores.detach(), ~kept, dropped)


def _largest(
    scores: Float[Tensor, "*shape"], eligible: Bool[Tensor, "*shape"], count: Int[Tensor, ""] | Float[Tensor, ""]
) -> Bool[Tensor, "*shape"]:
    """Mask of the ``count`` eligible entries with the largest scores."""
    order = scores.flatten().sort(descending=True, stable=True).indices
    candidates = eligible.flatten()[order]
    chosen = torch.empty_like(candidates)
    chosen[order] = candidates & (candidates.cumsum(0) <= count)
    return chosen.view(eligible.shape)
