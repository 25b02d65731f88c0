"""The geometric median of the workers' gradients by Weiszfeld's iteration."""

from __future__ import annotations

import torch
from selftune.objectives.regularizers.structure.krum import _squared_distances

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import aggregator
from selftune.shapes import Float, Tensor


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
)
def geometric_median(
    gradients: Float[Tensor, "workers size"],
    *,
    iterations: int = 100,
    epsilon: float | Float[Tensor, ""] = 1e-6,
    tolerance: float | Float[Tensor, ""] = 1e-12,
) -> Float[Tensor, "size"]:
    """The point with the smallest sum of Euclidean distances to the workers' gradients.

    It stays near the honest gradients as long as fewer than half of the workers are faulty.

    Args:
        iterations: at most so many steps of the smoothed Weiszfeld iteration, from the mean.
        epsilon: positive; distances below it count as it.
        tolerance: a step shorter than ``tolerance * max(1, norm of the point)`` is the last.

    Source: "Distributed Statistical Machine Learning in Adversarial Settings: Byzantine Gradient Descent"
    (arXiv 1705.05491); iteration of "Robust Aggregation for Federated Learning" (arXiv 1912.13445, Algorithm 1).

    >>> geometric_median(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [9.0, 9.0]])).abs().max() < 1e-5
    tensor(True)
    """
    # Every point of the iteration is a weighted mean of the gradients, so its distances follow from D, the squared
    # distances between them: |g_i - sum_j w_j g_j|^2 = (D w)_i - w' D w / 2. In double precision, the difference
    # is exact enough for gradients that lie up to a billion times farther away than others.
    workers = len(gradients)
    between = _squared_distances(gradients.double())
    lengths = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64).square()
    nearest = epsilon * epsilon
    weights = between.new_ones(workers)
    shares = weights / workers
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
