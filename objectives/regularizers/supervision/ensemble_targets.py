"""Targets from an ensemble of independently trained networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.companion import Companion
from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter, Integer
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def ensemble_targets(
    logits: Float[Tensor, "members batch classes"], space: str = "logits"
) -> Float[Tensor, "batch classes"]:
    """The members' averaged predictions, without gradient.

    Args:
        space: "logits" averages logits (the normalised geometric mean of the predictions), "probabilities"
            averages predictions.

    Raises:
        ValueError: for any other space.

    Source: "Pre-training under Infinite Compute" (arXiv 2509.14786).

    >>> import torch
    >>> ensemble_targets(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]))
    tensor([[0.5000, 0.5000]])
    """
    if space == "logits":
        return logits.detach().mean(dim=0).softmax(dim=-1)
    if space == "probabilities":
        return logits.detach().softmax(dim=-1).mean(dim=0)
    raise ValueError(f"space must be 'logits' or 'probabilities', got {space!r}.")


@register
class EnsembleTargets(Regularizer):
    """Replaces targets by averaged predictions of other networks, which are trained beside on the targets.

    The members differ in their random initialisation. They see the network's batches and take a step of the
    objective's optimizer with every training step; other regularizers of weights and layers do not act on them.
    They are saved with the trainer and not exported.

    In the paper members are trained to their end first, each with an order of the data, a number of epochs and a
    weight decay of its own, and a student learns from the finished ensemble, in part on text that it wrote. Here
    all learn at the same time: early targets are those of members that know little yet.
    """

    name = "ensemble_targets"
    family = "supervision"
    kind = "target"
    reference = Reference("Pre-training under Infinite Compute", "2509.14786")
    hyperparameters = (
        Hyperparameter("members", Integer(1, 64, sweep=(2, 8)), 5, online=False, smooth=False, shared=True),
        Hyperparameter("space", Choice(("logits", "probabilities")), "logits", online=False, smooth=False),
    )
    needs = frozenset({"inputs", "targets", "logits", "class_probabilities"})
    whole_batch = "its members take one step for the whole batch"
    order = "correction"

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        device, objective = next(network.parameters()).device, self._objective
        count = int(self.bound["members"].value)
        self._members = [Companion(objective, device) for _ in range(count)]

    def targets(self, step: Step) -> None:
        inputs, truth = step.inputs.detach(), step.targets.detach()
        logits = torch.stack([member.predict(inputs, step.batch) for member in self._members])
        if not step.perturbed:
            for member in self._members:
                member.descend(self._objective.loss(member.outputs(inputs, step.batch), truth).mean())
        step.targets = ensemble_targets(logits, self.bound["space"].value)

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self._members]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for member, saved in zip(self._members, state["members"], strict=True):
            member.load_state_dict(saved)
