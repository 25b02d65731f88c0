"""Sum of absolute values."""

from __future__ import annotations

from selftune.objectives.mathematics.smoothed_absolute import smoothed_absolute

from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


@penalty(
    family="dynamics",
    reference=Reference("Regression Shrinkage and Selection via the Lasso (Tibshirani, 1996)"),
    strength=Positive(sweep=(1e-6, 1.0)),
    default=1e-3,
    needs={"x": "features"},
    hyperparameters=[Hyperparameter("smoothing", Interval(0.0, sweep=(0.0, 1e-2)), 0.0)],
)
def l1_sparsity(
    x: Float[Tensor, "batch *shape"], *, smoothing: float | Float[Tensor, "*batch"] = 0.0
) -> Float[Tensor, "batch"]:
    """Sum of ``sqrt(x^2 + smoothing^2)`` over every example; its gradient is zero where both are zero.

    Args:
        smoothing: not negative; shape () or (batch,).

    Source: "Regression Shrinkage and Selection via the Lasso" (Tibshirani, 1996).

    >>> import torch
    >>> l1_sparsity(torch.tensor([[3.0, -4.0]])), l1_sparsity(torch.tensor([[3.0]]), smoothing=4.0)
    (tensor([7.]), tensor([5.]))
    """
    return smoothed_absolute(x, per_example(smoothing, x)).reshape(len(x), -1).sum(dim=1)
