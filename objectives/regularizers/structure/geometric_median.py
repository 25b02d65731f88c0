"""The geometric median of the workers' gradients by Weiszfeld's iteration."""

from __future__ import annotations

import torch
from selftune.objectives.regularizers.structure.krum import _squared_distances

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Bool, Float, Int, Tensor

_FAR = 1e4  # radii of the smallest ball that holds a majority


@aggregator(
    family="structure",
    reference=Reference(
        "Distributed Statistical Machine Learning in Adversarial Settings: Byzantine Gradient Descent",
        "1705.05491",
    ),
    hyperparameters=[
        Hyperparameter("iterations", Integer(1, 1000), 100, online=False, smooth=False, shared=True, swept=False),
        Hyperparameter(
            "epsilon", Positive(sweep=(1e-8, 1e-4)), 1e-6, online=False, smooth=False, shared=True, swept=False
        ),
    ],
    workers=8,
    tolerates=lambda members, faulty: (members - 1) // 2,
)
def geometric_median(
    gradients: Float[Tensor, "workers size"],
    *,
    iterations: int = 100,
    epsilon: float | Float[Tensor, ""] = 1e-6,
    tolerance: float | Float[Tensor, ""] = 1e-12,
) -> Float[Tensor, "size"]:
    """The point with the smallest sum of Euclidean distances to the workers' gradients.

    Of n workers, (n - 1) // 2 may send anything: with f of them faulty, the point is at most
    2 (n - f) / (n - 2 f) times as far from any place as the farthest honest gradient is.

    Args:
        iterations: at most so many steps of the smoothed Weiszfeld iteration, from the mean of what is not far
            away.
        epsilon: positive; distances below it count as it.
        tolerance: a step shorter than ``tolerance * max(1, norm of the point)`` is the last.

    Source: "Distributed Statistical Machine Learning in Adversarial Settings: Byzantine Gradient Descent"
    (arXiv 1705.05491); iteration of "Robust Aggregation for Federated Learning" (arXiv 1912.13445, Algorithm 1).

    >>> geometric_median(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [9.0, 9.0]])).abs().max() < 1e-5
    tensor(True)
    """
    between = _squared_distances(gradients.double())
    near, centre, limit = _majority(between)
    # Also where all are near: to ask would make the host wait for the device at every step.
    gradients = _pulled_in(gradients, between, near, centre, limit)
    between = _squared_distances(gradients.double())
    # Every point of the iteration is a weighted mean of the gradients, so its distances follow from D, the squared
    # distances between them: |g_i - sum_j w_j g_j|^2 = (D w)_i - w' D w / 2, exact enough in double precision.
    lengths = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64).square()
    nearest = epsilon * epsilon
    weights = near.to(between.dtype)
    shares = weights / weights.sum()
    reach = between @ shares
    inner = shares @ reach / 2
    done = torch.zeros((), dtype=torch.bool, device=gradients.device)
    for _ in range(iterations):
        new = (reach - inner).clamp_min(nearest).rsqrt()
        # A finished point is kept by `where`: leaving the loop would wait for the device at every step.
        weights = torch.where(done, weights, new)
        moved = weights / weights.sum()
        reached = between @ moved
        inner = moved @ reached / 2
        step = (moved - shares) @ (reach - reached) / 2
        done = done | (step <= tolerance * tolerance * (moved @ lengths - inner).clamp_min(1))
        shares, reach = moved, reached
    return (weights.to(gradients.dtype)[:, None] * gradients).sum(dim=0) / weights.sum().to(gradients.dtype)


def _majority(
    between: Float[Tensor, "workers workers"],
) -> tuple[Bool[Tensor, "workers"], Int[Tensor, "1"], Float[Tensor, "1"]]:
    """Who is close to the majority, the centre of the smallest ball that holds it, and how far is too far."""
    radii = between.sort(dim=1).values[:, len(between) // 2].sqrt()
    centre = radii.argmin(dim=0, keepdim=True)
    limit = _FAR * radii[centre]
    return between[centre][0].sqrt() <= limit, centre, limit


def _pulled_in(
    gradients: Float[Tensor, "workers size"],
    between: Float[Tensor, "workers workers"],
    near: Bool[Tensor, "workers"],
    centre: Int[Tensor, "1"],
    limit: Float[Tensor, "1"],
) -> Float[Tensor, "workers size"]:
    """The gradients, those that are far away moved closer.

    A gradient pulls the median by its direction alone, so that moving it along its line of sight changes nothing;
    seen from the centre, that direction errs by 1 / _FAR at most. Without it, the iteration would need many steps
    back from a mean that one of them can put anywhere, and rounding would drown the distances between the others.
    """
    middle = gradients[centre].double()
    shrink = limit / between[centre][0].sqrt().masked_fill(near, 1.0)
    closer = middle + (gradients.double() - middle) * shrink[:, None]
    return torch.where(near[:, None], gradients, closer.to(gradients.dtype))
