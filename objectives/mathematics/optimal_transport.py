"""What entropic optimal transport is made of: costs, potentials by log-domain Sinkhorn iterations, densities."""

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


def squared_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Squared Euclidean distances between all points of two sets.

    >>> squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]]))
    tensor([[9.],
            [4.]])
    """
    # distances do not depend on the origin, but the rounding errors of the expanded square do
    origin = x.detach().mean(dim=0)
    x, y = x - origin, y - origin
    return x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T


def uniform_weights(points: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
    """The same weight for every point.

    >>> uniform_weights(torch.zeros(2, 3))
    tensor([0.5000, 0.5000])
    """
    return points.new_full((len(points),), 1 / len(points))


def mean_cost(cost: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """The unit of epsilon: the mean of the costs, a constant, positive also where all costs are zero.

    >>> mean_cost(torch.tensor([[1.0, 3.0]]))
    tensor(2.)
    """
    return cost.detach().mean().clamp_min(torch.finfo(cost.dtype).tiny ** 0.5)
