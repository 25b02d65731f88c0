"""Self-distillation with the ground truth mixed into the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.hyperparameters import Hyperparameter, Integer, Unit
from selftune.networks.inventory import tensors_of
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def self_distillation_targets(
    targets: Float[Tensor, "batch classes"],
    predictions: Float[Tensor, "batch classes"],
    alpha: float | Float[Tensor, "*alpha"] = 0.5,
) -> Float[Tensor, "batch classes"]:
    """``alpha * targets + (1 - alpha) * predictions`` of the round before; no gradient flows to those.

    Args:
        alpha: weight of the ground truth, in [0, 1].

    Source: "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
    Self-Distillation" (arXiv 2102.13088).

    >>> import torch
    >>> self_distillation_targets(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), alpha=0.5)
    tensor([[0.7500, 0.2500]])
    """
    alpha = per_example(alpha, targets)
    return alpha * targets + (1 - alpha) * predictions.detach()


@register
class SelfDistillationTargets(Regularizer):
    """Trains in rounds: each starts afresh, on targets mixed with predictions of the network of the round before.

    Training is divided into ``rounds`` of equal length. The first round sees the targets as they are; the others
    start from the initial weights again, with an optimizer that starts anew too.
    """

    name = "self_distillation_targets"
    family = "supervision"
    kind = "target"
    reference = Reference(
        "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by"
        " Self-Distillation",
        "2102.13088",
    )
    hyperparameters = (
        Hyperparameter("alpha", Unit(), 0.5),
        Hyperparameter("rounds", Integer(1, 100, sweep=(1, 10)), 3, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"targets", "logits", "progress", "initial_parameters", "class_probabilities"})
    order = "correction"
    whole_network = "it sets the network back to its initial weights"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._round = 0
        self._teacher: dict[str, Tensor] = {}

    def attach(self, network: nn.Module) -> None:
        self._network = network

    @torch.no_grad()
    def batch(self, step: Step) -> None:
        now = int(step.progress * self.bound["rounds"].value)
        if now > self._round and not step.perturbed:
            own = tensors_of(self._network)
            self._teacher = {name: tensor.detach().clone() for name, tensor in own.items()}
            for name, tensor in own.items():
                tensor.copy_(step.initial_parameters[name])
            step.asks.forget_moments(step)
            self._round = now

    def targets(self, step: Step) -> None:
        if self._teacher:
            taught = step.asks.pass_copy(step, self._teacher, step.inputs.detach()).logits.softmax(dim=-1)
            step.targets = self_distillation_targets(step.targets, taught, self.value(step, "alpha"))

    def state_dict(self) -> dict[str, Any]:
        return {"round": self._round, "teacher": self._teacher}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = next(self._network.parameters()).device
        self._round = state["round"]
        self._teacher = {name: tensor.to(device) for name, tensor in state["teacher"].items()}
