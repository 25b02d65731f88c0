"""Entropic optimal transport without its bias: a divergence between two samples."""

from __future__ import annotations

from selftune.objectives.regularizers.dynamics.entropic_transport_cost import entropic_transport_cost

from selftune.shapes import Float, Tensor


def sinkhorn_divergence(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    source: Float[Tensor, "n"] | None = None,
    target: Float[Tensor, "m"] | None = None,
    epsilon: float | Float[Tensor, ""] = 0.05,
    iterations: int = 200,
) -> Float[Tensor, ""]:
    """``OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2`` for squared Euclidean costs; zero where both samples agree.

    Args:
        source, target: probability vectors of the points; uniform by default.
        epsilon: positive, in units of squared distance.

    Source: "Learning Generative Models with Sinkhorn Divergences" (arXiv 1706.00292).

    >>> import torch
    >>> sinkhorn_divergence(torch.zeros(3, 2), torch.ones(2, 2))
    tensor(2.)
    """
    source = x.new_full((len(x),), 1 / len(x)) if source is None else source
    target = y.new_full((len(y),), 1 / len(y)) if target is None else target
    # distances do not depend on the origin, but the rounding errors of the expanded square do
    origin = x.detach().mean(dim=0)
    x, y = x - origin, y - origin

    def transport(p: Tensor, q: Tensor, of_p: Tensor, of_q: Tensor) -> Tensor:
        cost = p.square().sum(dim=1)[:, None] + q.square().sum(dim=1) - 2 * p @ q.T
        return entropic_transport_cost(cost, of_p, of_q, epsilon=epsilon, iterations=iterations)

    within = transport(x, x, source, source) + transport(y, y, target, target)
    return transport(x, y, source, target) - 0.5 * within
