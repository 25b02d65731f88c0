"""Max-norm constraint on every unit's incoming weights."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import proximal
from selftune.shapes import Float, Tensor


@proximal(
    family="supervision",
    reference=Reference("Improving neural networks by preventing co-adaptation of feature detectors", "1207.0580"),
    hyperparameters=[Hyperparameter("limit", Positive(sweep=(0.5, 5.0)), 3.0, smooth=False, shared=True)],
    unitwise=True,
)
def max_norm(
    weight: Float[Tensor, "out *rest"], limit: float | Float[Tensor, "*rows"]
) -> Float[Tensor, "out *rest"]:
    """Projects each row (output unit) onto the ball of radius ``limit``; rows inside are untouched.

    Source: "Improving neural networks by preventing co-adaptation of feature detectors" (arXiv 1207.0580).

    >>> max_norm(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    norms = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    norms = norms.view(-1, *([1] * (weight.ndim - 1)))
    return torch.where(norms > limit, weight * (limit / norms), weight)
