"""L1 penalty on the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def l1(parameters: list[Tensor]) -> Float[Tensor, ""]:
    """Sum of the absolute weights, which drives small weights to zero; its subgradient at 0 is 0.

    Source: "Regression Shrinkage and Selection via the Lasso" (Tibshirani, 1996).

    >>> l1([torch.tensor([3.0, -4.0]), torch.tensor([[0.5]])])
    tensor(7.5000)
    """
    return torch.stack([parameter.abs().sum() for parameter in parameters]).sum()


@register
class L1(Regularizer):
    """Sum of the absolute weights of layers, as a term of the loss or as a step after the optimizer's.

    ``mode: subgradient`` adds the term; ``mode: proximal`` instead moves every weight by
    ``learning_rate * strength`` toward zero, and to exactly zero what is closer.
    """

    name = "l1"
    family = "supervision"
    kind = "penalty"
    reference = Reference("Regression Shrinkage and Selection via the Lasso (Tibshirani, 1996)")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-7, 1e-2)), 1e-5, shared=True),
        Hyperparameter("mode", Choice(("subgradient", "proximal")), "subgradient", online=False, smooth=False),
    )
    needs = frozenset({"parameters", "learning_rate"})
    per_layer = unitwise = True

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        if self._proximal:  # the strength is then not in the loss
            self.bound["strength"] = replace(self.bound["strength"], smooth=False)

    @property
    def _proximal(self) -> bool:
        return bool(self.bound["mode"].value == "proximal")

    def penalty(self, step: Step) -> Float[Tensor, "*parts"]:
        if self._proximal:
            return step.logits.new_zeros(self.bound["strength"].shape)
        if self.per_unit:
            return torch.cat([weight.abs().flatten(1).sum(dim=1) for weight in self.weights(step, self.layers)])
        zero = step.logits.new_zeros(())
        weights = [self.weights(step, layers) for layers in self.layers.values()]
        terms = [l1(tensors) if tensors else zero for tensors in weights]
        return terms[0] if self.parts is None else torch.stack(terms)

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        if not self._proximal:
            return parameter
        shrunk: Tensor = parameter.sign() * (parameter.abs() - step.learning_rate * values["strength"]).relu()
        return shrunk
