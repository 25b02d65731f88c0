"""Entropic optimal transport."""

from __future__ import annotations

import torch
from selftune.objectives.mathematics.optimal_transport import log_density, potentials

from selftune.registries.reference import Reference
from selftune.registries.solvers import solver
from selftune.shapes import Float, Tensor


@solver(
    family="dynamics",
    reference=Reference("Sinkhorn Distances: Lightspeed Computation of Optimal Transport", "1306.0895"),
)
def sinkhorn(
    cost: Float[Tensor, "n m"],
    source: Float[Tensor, "n"],
    target: Float[Tensor, "m"],
    *,
    epsilon: float | Float[Tensor, ""] = 0.05,
    iterations: int = 200,
) -> Float[Tensor, "n m"]:
    """The plan that minimises ``<P, cost> + epsilon KL(P || source target^T)`` among those with these marginals.

    Exactly ``iterations`` rounds of updates in the logarithmic domain; the column sums are exact after the last.
    The plan is a constant: no gradient passes through the iterations.

    Args:
        source, target: probability vectors.
        epsilon: positive; 0.05 times the mean cost is a good start.

    Source: "Sinkhorn Distances: Lightspeed Computation of Optimal Transport" (arXiv 1306.0895), with the entropy
    relative to the product of the marginals.

    >>> half = torch.tensor([0.5, 0.5])
    >>> sinkhorn(1 - torch.eye(2), half, half, epsilon=0.001)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    f, g = potentials(cost, source, target, epsilon, iterations)
    with torch.no_grad():
        return source[:, None] * target * log_density(cost, f, g, epsilon).exp()
