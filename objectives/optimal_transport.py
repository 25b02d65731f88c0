"""Potentials of entropic optimal transport by log-domain Sinkhorn iterations."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


@torch.no_grad()
def potentials(
    cost: Float[Tensor, "n m"],
    source: Float[Tensor, "n"],
    target: Float[Tensor, "m"],
    epsilon: float | Float[Tensor, ""],
    iterations: int,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
    """Dual variables of ``min <P, C> + epsilon KL(P || source target^T)`` after so many rounds, without gradient.

    The last update makes the column sums of the plan exact.

    >>> f, g = potentials(torch.zeros(1, 2), torch.ones(1), torch.tensor([0.5, 0.5]), epsilon=1.0, iterations=1)
    >>> f.shape, g.shape
    (torch.Size([1]), torch.Size([2]))
    """
    log_source, log_target = source.log()[:, None], target.log()[None, :]
    scaled = cost / epsilon
    f, g = torch.zeros_like(scaled[:, :1]), torch.zeros_like(scaled[:1])
    for _ in range(iterations):
        f = -torch.logsumexp(log_target + g - scaled, dim=1, keepdim=True)
        g = -torch.logsumexp(log_source + f - scaled, dim=0, keepdim=True)
    return epsilon * f[:, 0], epsilon * g[0]


@torch.no_grad()
def log_density(
    cost: Float[Tensor, "n m"],
    f: Float[Tensor, "n"],
    g: Float[Tensor, "m"],
    epsilon: float | Float[Tensor, ""],
) -> Float[Tensor, "n m"]:
    """Logarithm of the plan's density with respect to the product of its marginals, without gradient.

    >>> log_density(torch.ones(1, 1), torch.zeros(1), torch.ones(1), epsilon=0.5)
    tensor([[0.]])
    """
    return (f[:, None] + g - cost) / epsilon
