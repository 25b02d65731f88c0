"""The geometric median of the workers' gradients by Weiszfeld's iteration."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.regularizer import Reference
from selftune.shapes import Float, Tensor
from selftune.stateless import aggregator


@aggregator(
    family="structure",
    reference=Reference(
        "Distributed Statistical Machine Learning in Adversarial Settings: Byzantine Gradient Descent",
        "1705.05491",
    ),
    hyperparameters=[
        Hyperparameter("iterations", Integer(1, 1000), 100, online=False, smooth=False, shared=True),
        Hyperparameter("epsilon", Positive(sweep=(1e-8, 1e-4)), 1e-6, online=False, smooth=False, shared=True),
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
    point = gradients.mean(dim=0)
    done = torch.zeros((), dtype=torch.bool, device=gradients.device)
    for _ in range(iterations):
        weights = 1 / torch.linalg.vector_norm(gradients - point, dim=1).clamp_min(epsilon)
        # A finished point is kept by `where`: leaving the loop would wait for the device at every step.
        new = torch.where(done, point, weights @ gradients / weights.sum())
        move = torch.linalg.vector_norm(new - point)
        done = done | (move <= tolerance * torch.linalg.vector_norm(new).clamp_min(1))
        point = new
    return point
