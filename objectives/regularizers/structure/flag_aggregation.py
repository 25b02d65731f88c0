"""The flag aggregator: the mean of the workers' directions within the subspace that explains most of them."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Integer, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Float, Tensor

_SHORTEST = 1e-12  # length of a gradient whose direction counts in full
_LEAST = 1e-10  # fall of the objective that is worth another step


def _setting(name: str, domain: Integer | Interval | Positive, value: float) -> Hyperparameter:
    return Hyperparameter(name, domain, value, online=False, smooth=False, shared=True, swept=False)


@aggregator(
    family="structure",
    reference=Reference(
        "Flag Aggregator: Scalable Distributed Training under Failures and Augmented Losses using Convex"
        " Optimization",
        "2302.05865",
    ),
    hyperparameters=[
        _setting("rank", Integer(0, 1024), 0),
        _setting("strength", Interval(0.0, 1024.0), 0.0),
        _setting("iterations", Integer(1, 1000), 5),
        _setting("epsilon", Positive(sweep=(1e-9, 1e-5)), 1e-7),
    ],
    workers=8,
    fewest=lambda faulty: 2,
    unit=True,
)
def flag_aggregation(
    gradients: Float[Tensor, "workers size"],
    *,
    rank: int | None = None,
    strength: float | Float[Tensor, ""] = 0.0,
    iterations: int = 5,
    epsilon: float | Float[Tensor, ""] = 1e-7,
    initial: Float[Tensor, "size rank"] | None = None,
) -> Float[Tensor, "size"]:
    """The mean of the workers' directions, within the subspace that leaves least of most of them out.

    With u_i the gradients at length 1, the subspace Y of dimension ``rank`` minimises
    ``sum_i sqrt(1 - |Y'u_i|^2)``; with a ``strength``, that many times the mean of the same over the directions
    between any two workers is added. The square root makes it robust: a worker that the subspace does not explain
    hardly turns it. Lengths do not count, so that the result is at most 1 long, and however long one of n
    gradients is, it adds at most 1 / n. How many may lie before they turn the subspace depends on their
    directions: none is guaranteed.

    Where several subspaces explain the workers equally well, as where all are orthogonal, any may be taken.

    Args:
        rank: dimension of the subspace, at most workers and size; by default, and with 0 in a study file,
            half of the workers and one more.
        strength: at least 0.
        iterations: at most so many reweighted steps.
        epsilon: positive; keeps weights finite.
        initial: columns that span the first subspace; by default that of the largest singular values of the u_i.

    Raises:
        ValueError: if there are fewer than two workers, or the rank is not positive.

    Source: "Flag Aggregator: Scalable Distributed Training under Failures and Augmented Losses using Convex
    Optimization" (arXiv 2302.05865, section 2). As in the authors' program, the mean is that of directions: that
    of gradients could be put anywhere by one worker. Other than there, the first subspace is that of the singular
    vectors instead of a random one, and the mean is no sum that is divided by the rank.

    >>> near, apart = torch.tensor([[3.0, 0.1], [2.0, -0.1], [5.0, 0.0]]), torch.tensor([[0.0, 1e12]])
    >>> flag_aggregation(torch.cat([near, apart]), rank=1).round(decimals=3)  # three of four agree
    tensor([0.7500, 0.0000])
    """
    workers, size = gradients.shape
    if workers < 2:
        raise ValueError(f"flag_aggregation needs at least 2 workers, got {workers}.")
    rank = workers // 2 + 1 if rank is None else rank
    if rank < 1:
        raise ValueError(f"flag_aggregation needs a rank of at least 1, got {rank}.")
    rank = min(rank, workers, size)
    exact = gradients.double()
    lengths = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    units = exact / lengths.clamp_min(_SHORTEST)
    # All columns lie in the span of the workers' gradients: coordinates there are as good as the vectors.
    frame, inside = torch.linalg.qr(units.T)  # (size, k), (k, workers)
    columns, weights = inside, inside.new_ones(workers)
    if isinstance(strength, Tensor) or strength > 0:
        differences = _differences(inside, lengths[:, 0])
        columns = torch.cat([inside, differences], dim=1)
        share = strength / (workers * (workers - 1))
        weights = torch.cat([weights, inside.new_ones(differences.shape[1]) * share])
    start = None if initial is None else torch.linalg.qr(initial.double())[0]
    basis = _largest(inside, rank) if start is None else frame.T @ start
    left_out = _left_out(basis, columns)
    objective = weights @ left_out.sqrt()
    has_turned = torch.zeros_like(objective, dtype=torch.bool)
    for _ in range(
        iterations
    ):  # all of them, because whether one is the last would have to be asked of the device
        turned = _largest(columns * weights.sqrt() * (left_out + epsilon) ** -0.25, rank)
        turned_left_out = _left_out(turned, columns)
        reached = weights @ turned_left_out.sqrt()
        better = objective - reached > _LEAST
        basis, left_out = torch.where(better, turned, basis), torch.where(better, turned_left_out, left_out)
        objective, has_turned = torch.where(better, reached, objective), has_turned | better
    mean = basis.T @ inside.mean(dim=1)
    span = frame @ basis
    if start is not None:
        span = torch.where(has_turned, span, start)
    found: Tensor = span @ mean
    return found.to(gradients.dtype)


def _differences(
    inside: Float[Tensor, "k workers"], lengths: Float[Tensor, "workers"]
) -> Float[Tensor, "k pairs"]:
    """Directions from every worker to every other one, in coordinates; zero where they are equal."""
    one, other = torch.triu_indices(len(lengths), len(lengths), offset=1, device=inside.device)
    whole = inside * lengths.clamp_min(_SHORTEST)
    between = whole[:, one] - whole[:, other]
    distances = torch.linalg.vector_norm(between, dim=0)
    directions = between / distances.clamp_min(torch.finfo(distances.dtype).tiny)
    return torch.cat([directions, -directions], dim=1)


def _largest(columns: Float[Tensor, "k columns"], rank: int) -> Float[Tensor, "k rank"]:
    """Left singular vectors of the largest singular values."""
    vectors: Tensor = torch.linalg.svd(columns, full_matrices=False)[0]
    return vectors[:, :rank]


def _left_out(basis: Float[Tensor, "k rank"], columns: Float[Tensor, "k columns"]) -> Float[Tensor, "columns"]:
    """How much of the square of a direction lies outside of the subspace."""
    return (1 - (basis.T @ columns).square().sum(dim=0)).clamp_min(0)
