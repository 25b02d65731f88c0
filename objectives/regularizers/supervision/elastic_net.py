"""Elastic net: a convex mix of the L1 and the squared L2 penalty."""

from __future__ import annotations

from selftune.objectives.regularizers.supervision.l1 import l1
from selftune.objectives.regularizers.supervision.weight_decay import weight_decay

from selftune.hyperparameters import Hyperparameter, Positive, Unit
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="supervision",
    reference=Reference("Regularization and Variable Selection via the Elastic Net (Zou and Hastie, 2005)"),
    strength=Positive(sweep=(1e-7, 1e-1)),
    default=1e-4,
    needs={"parameters": "parameters"},
    hyperparameters=[Hyperparameter("ratio", Unit(), 0.5, shared=True)],
    unitwise=lambda rows, ratio: ratio * rows.abs().sum(dim=1) + 0.5 * (1 - ratio) * rows.square().sum(dim=1),
)
def elastic_net(parameters: list[Tensor], ratio: float | Float[Tensor, ""] = 0.5) -> Float[Tensor, ""]:
    """``ratio * sum |p| + (1 - ratio) * sum p^2 / 2``: sparse, but correlated weights stay together.

    Args:
        ratio: share of the L1 part, in [0, 1]; the ``l1_ratio`` of scikit-learn.

    Source: "Regularization and Variable Selection via the Elastic Net" (Zou and Hastie, 2005).

    >>> import torch
    >>> elastic_net([torch.tensor([3.0, -4.0])], ratio=0.5)
    tensor(9.7500)
    """
    return ratio * l1(parameters) + (1 - ratio) * weight_decay(parameters)
