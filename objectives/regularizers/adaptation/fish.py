"""Fish: weights move part of the way that inner steps, one per domain, have gone."""

from __future__ import annotations

import torch
from torch import nn

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.networks.inventory import tensors_of
from selftune.networks.precision import widened
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def fish(
    weights: Float[Tensor, "parameters"],
    inner_weights: Float[Tensor, "parameters"],
    step: float | Float[Tensor, ""] = 0.5,
) -> Float[Tensor, "parameters"]:
    """``(1 - step) * weights + step * inner_weights``.

    The inner weights start at the weights and take one step of the optimizer on every domain's loss in turn.

    Args:
        step: in [0, 1].

    Source: "Gradient Matching for Domain Generalization" (arXiv 2104.09937, algorithm 1).

    >>> fish(torch.zeros(1), torch.ones(1), step=0.25)
    tensor([0.2500])
    """
    return (1 - step) * weights + step * inner_weights


_COMPARE_DOMAINS = (
    "correlation_alignment",
    "fishr",
    "hessian_diagonal_alignment",
    "hessian_gradient_alignment",
    "inter_environment_gradient_alignment",
    "risk_extrapolation",
)


@register
class Fish(Regularizer):
    """One step of the optimizer on every domain of the batch in turn, then back to a point part of the way.

    Running statistics of normalisation layers go part of the way too.
    """

    name = "fish"
    family = "adaptation"
    kind = "proximal"
    reference = Reference("Gradient Matching for Domain Generalization", "2104.09937")
    hyperparameters = (Hyperparameter("step", Unit(sweep=(0.05, 0.5)), 0.5, smooth=False, shared=True),)
    needs = frozenset({"parameters", "domains"})
    one_process = None
    waits = "it takes a step for every domain of the batch"
    incompatible = dict.fromkeys(_COMPARE_DOMAINS, "fish trains on one domain at a time, and it compares several")

    def attach(self, network: nn.Module) -> None:
        self._network = network

    def replace(self, step: Step) -> Float[Tensor, ""]:
        # each tensor once, buffers among them
        before = {
            name: tensor.detach().clone()
            for name, tensor in tensors_of(self._network).items()
            if tensor.is_floating_point()
        }
        losses = []
        domains = step.domains[: len(step.index)]  # every part appends its own examples
        for domain in torch.unique(domains):
            rows = torch.nonzero(domains == domain).flatten()
            losses.append(step.asks.part(step, rows))
            step.asks.descend(step, losses[-1])
        with torch.no_grad():
            moved = tensors_of(self._network)
            for name, start in before.items():
                tensor = moved[name]
                tensor.copy_(fish(widened(start), widened(tensor), self.value(step, "step")))
        return torch.stack(losses).detach().mean()
