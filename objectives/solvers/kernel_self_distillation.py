"""Rounds of self-distillation of kernel ridge regression, in closed form."""

from __future__ import annotations

import torch

from selftune.registries.reference import Reference
from selftune.registries.solvers import solver
from selftune.shapes import Float, Tensor


@solver(
    family="supervision",
    reference=Reference(
        "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by"
        " Self-Distillation",
        "2102.13088",
    ),
)
def kernel_self_distillation(
    kernel: Float[Tensor, "n n"],
    targets: Float[Tensor, "n"],
    strength: float | Float[Tensor, ""],
    alpha: float | Float[Tensor, ""],
    steps: int,
) -> Float[Tensor, "n"]:
    """Fitted values after ``steps`` rounds, each on ``alpha * targets + (1 - alpha) * previous fitted values``.

    The first round is ordinary ridge regression; the limit is ridge regression with ``strength / alpha``.

    Args:
        kernel: symmetric and positive semi-definite.
        strength: of the ridge penalty, positive.
        alpha: weight of the ground truth, in [0, 1].
        steps: at least 0; no step gives the targets.

    Source: "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation" (arXiv 2102.13088).

    >>> kernel_self_distillation(torch.eye(1), torch.tensor([8.0]), strength=1.0, alpha=0.0, steps=3)
    tensor([1.])
    """
    factor = torch.linalg.cholesky(kernel + strength * torch.eye(len(kernel)).to(kernel))
    fitted = targets
    for _ in range(steps):
        mixed = alpha * targets + (1 - alpha) * fitted
        fitted = kernel @ torch.cholesky_solve(mixed[:, None], factor)[:, 0]
    return fitted
