"""Stochastic restore: a small share of the weights goes back to the source."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def stochastic_restore(
    parameter: Float[Tensor, "*shape"],
    source: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, ""] = 0.01,
) -> Float[Tensor, "*shape"]:
    """Replaces weights whose draw is below ``rate`` by those of the source, which bounds the drift for ever.

    Args:
        source: weights to return to; no gradient flows to them.
        uniform: draws from [0, 1), one per weight.
        rate: share of weights to restore, in [0, 1].

    Source: "Continual Test-Time Domain Adaptation" (arXiv 2203.13591).

    >>> import torch
    >>> stochastic_restore(torch.tensor([1.0, 2.0]), torch.zeros(2), torch.tensor([0.5, 0.001]))
    tensor([1., 0.])
    """
    return source.detach().where(uniform < rate, parameter)


@register
class StochasticRestore(Regularizer):
    """After every step sets a random small share of all trained weights back to where they started.

    It acts after a mean teacher has seen the step.
    """

    name = "stochastic_restore"
    family = "supervision"
    kind = "proximal"
    reference = Reference("Continual Test-Time Domain Adaptation", "2203.13591")
    hyperparameters = (Hyperparameter("rate", Unit(sweep=(0.0, 0.1)), 0.01, smooth=False, shared=True),)
    needs = frozenset({"parameters", "initial_parameters"})
    order = "average"

    def parameters(self, step: Step) -> None:
        trained = {name: weight for name, weight in step.parameters.items() if weight.requires_grad}
        uniform = step.rand(sum(parameter.numel() for parameter in trained.values()))
        draws = torch.split(uniform, [parameter.numel() for parameter in trained.values()])
        for (name, parameter), draw in zip(trained.items(), draws, strict=True):
            source, rate = step.initial_parameters[name], self.value(step, "rate")
            parameter.copy_(stochastic_restore(parameter, source, draw.view_as(parameter), rate))
