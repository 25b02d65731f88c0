"""DropConnect: dropout of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.objectives.common.start_rules import BALANCED_RATE

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def dropconnect(
    weight: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, ""] = 0.5,
) -> Float[Tensor, "*shape"]:
    """Zeroes weights whose draw is below ``rate`` and divides the others by ``1 - rate``.

    At evaluation the weight itself, which is its mean, takes the place of the paper's moment matching.

    Args:
        uniform: draws from [0, 1), one per weight and forward pass.
        rate: in [0, 1).

    Source: "Regularization of Neural Networks using DropConnect" (Wan et al., 2013).

    >>> import torch
    >>> dropconnect(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]), 0.5)
    tensor([0., 2., 2.])
    """
    return weight * ((uniform >= rate).to(weight.dtype) / (1 - rate))


@register
class Dropconnect(Reparameterization):
    """Drops weights of layers, by one draw per weight and training pass; evaluation uses all of them.

    By default of every layer after the first; ``parts`` names layers, each part with a rate of its own. Rates
    are capped at 0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "dropconnect"
    family = "supervision"
    reference = Reference("Regularization of Neural Networks using DropConnect (Wan et al., 2013)")
    hyperparameters = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.5, smooth=False, shared=True, start=BALANCED_RATE),
    )

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:] or layers

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        if step is None:
            return original
        return dropconnect(original, step.rand(*original.shape), values["rate"])
