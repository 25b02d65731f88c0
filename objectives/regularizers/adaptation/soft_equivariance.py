"""Soft equivariance: distance of a linear layer from those that commute with a group."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity(
        "input_actions", ("layers", "group", "in", "in"), "float", "how a symmetry acts on every layer's inputs"
    ),
    Quantity("output_actions", ("layers", "group", "out", "out"), "float", "how it acts on its outputs"),
)


def soft_equivariance(
    weight: Float[Tensor, "out in"],
    bias: Float[Tensor, "out"],
    input_actions: Float[Tensor, "group in in"],
    output_actions: Float[Tensor, "group out out"],
) -> Float[Tensor, ""]:
    """Half the squared distances of weight and bias from their averages over the group.

    Zero if and only if the layer commutes with the group: averages are projections onto the layers that do.

    Args:
        input_actions, output_actions: invertible matrices by which every element of the group acts; the whole
            group, or a quadrature of it.

    Source: "Regularizing Towards Soft Equivariance Under Mixed Symmetries" (arXiv 2306.00356).

    >>> swap = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> soft_equivariance(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.ones(2), swap, swap)
    tensor(1.)
    """
    # inv_ex, because inv would wait for the device to see whether a matrix is singular
    undone = torch.linalg.inv_ex(input_actions).inverse
    equivariant_weight: Tensor = (output_actions @ weight @ undone).mean(dim=0)
    equivariant_bias: Tensor = (output_actions @ bias).mean(dim=0)
    return 0.5 * ((weight - equivariant_weight).square().sum() + (bias - equivariant_bias).square().sum())


@register
class SoftEquivariance(Regularizer):
    """Distance of every layer's weight and bias from those that commute with a symmetry, added up over layers."""

    name = "soft_equivariance"
    family = "adaptation"
    kind = "penalty"
    reference = Reference("Regularizing Towards Soft Equivariance Under Mixed Symmetries", "2306.00356")
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(1e-2, 200.0)), 1.0, shared=True),)
    needs = frozenset({"parameters", "input_actions", "output_actions"})

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._layers = objective.layers()

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        terms = []
        actions = zip(self._layers, step.input_actions, step.output_actions, strict=True)
        for layer, input_actions, output_actions in actions:
            weight = step.asks.weight(step, layer)
            bias = step.asks.bias(step, layer)
            terms.append(soft_equivariance(weight, bias, input_actions, output_actions))
        return torch.stack(terms).sum()
