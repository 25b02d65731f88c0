"""Weight compander: a saturating odd curve between the trained values and the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def weight_compander(
    values: Float[Tensor, "*shape"],
    *,
    amplitude: float | Float[Tensor, "#*shape"] = 1.0,
    width: float | Float[Tensor, "#*shape"] = 1.0,
) -> Float[Tensor, "*shape"]:
    """Weights ``amplitude * arctan(values / width)``: large ones are capped, small ones pushed away from zero.

    Their magnitude is below ``amplitude * pi / 2`` and the slope at zero is ``amplitude / width``.

    Args:
        amplitude, width: positive.

    Source: "Weight Compander: A Simple Weight Reparameterization for Regularization" (arXiv 2306.16993).

    >>> weight_compander(torch.tensor([0.0, 2.0]), amplitude=4 / torch.pi, width=2.0)
    tensor([0., 1.])
    """
    return amplitude * torch.atan(values / width)


@register
class WeightCompander(Reparameterization):
    """Trains values of which the weights are a saturating curve: large ones are capped, small ones pushed out.

    Values start where the weights are what they were, up to 1.5 times ``amplitude``. With ``learned: true`` every
    layer trains the logarithms of its amplitude and width, from the given ones. ``parts`` says in which layers; by
    default in all but the last one.
    """

    name = "weight_compander"
    family = "structure"
    reference = Reference("Weight Compander: A Simple Weight Reparameterization for Regularization", "2306.16993")
    hyperparameters = (
        Hyperparameter("amplitude", Positive(sweep=(0.1, 2.0)), 1.0, shared=True),
        Hyperparameter("width", Positive(sweep=(0.1, 2.0)), 1.0, shared=True),
        Hyperparameter("learned", Choice((False, True)), False, online=False, smooth=False),
    )

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[:-1] or layers

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        if not self.bound["learned"].value:
            return {}
        return {name: weight.new_tensor(math.log(values[name])) for name in ("amplitude", "width")}

    def inverse(self, weight: Tensor, values: Mapping[str, Any]) -> Tensor:
        inverse: Tensor = values["width"] * torch.tan((weight / values["amplitude"]).clamp(-1.5, 1.5))
        return inverse

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        if self.bound["learned"].value:
            return weight_compander(original, amplitude=extra.amplitude.exp(), width=extra.width.exp())
        return weight_compander(original, amplitude=values["amplitude"], width=values["width"])
