"""Random teachers: distillation from a network that was never trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.regularizers.supervision.interpolated_initialization import (
    _join,
    interpolated_initialization,
)
from torch import nn

from selftune.data.nested import mapped
from selftune.hyperparameters import Hyperparameter, Positive, Unit
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.network_state import load_state, state_of
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def random_teacher(
    student_logits: Float[Tensor, "batch outputs"],
    teacher_logits: Float[Tensor, "batch outputs"],
    student_temperature: float | Float[Tensor, "*student_temperature"] = 1.0,
    teacher_temperature: float | Float[Tensor, "*teacher_temperature"] = 1.0,
) -> Float[Tensor, "batch"]:
    """Cross-entropy of the student's predictions against the teacher's; no gradient flows to the teacher.

    Args:
        student_temperature, teacher_temperature: divisors of the logits, positive.

    Source: "Random Teachers are Good Teachers" (arXiv 2302.12091).

    >>> import torch
    >>> random_teacher(torch.zeros(1, 2), torch.tensor([[5.0, 1.0]]))
    tensor([0.6931])
    """
    teacher = teacher_logits.detach() / per_example(teacher_temperature, teacher_logits)
    student = student_logits / per_example(student_temperature, student_logits)
    losses: Tensor = -(teacher.softmax(dim=-1) * student.log_softmax(dim=-1)).sum(dim=-1)
    return losses


@register
class RandomTeacher(Regularizer):
    """Distillation from a network of the same architecture that is drawn at random and never trained.

    ``alpha`` below 1 starts the network near its teacher. It provides ``teacher_logits``.
    """

    name = "random_teacher"
    family = "supervision"
    kind = "penalty"
    reference = Reference("Random Teachers are Good Teachers", "2302.12091")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-2, 10.0)), 1.0),
        Hyperparameter("student_temperature", Positive(sweep=(0.1, 2.0)), 1.0),
        Hyperparameter("teacher_temperature", Positive(sweep=(0.1, 2.0)), 1.0),
        Hyperparameter("alpha", Unit(), 1.0, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"logits", "probs"})
    provides = frozenset({"teacher_logits"})
    order = "problem"  # sets initial weights

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        self._teacher = self._objective.network().to(next(network.parameters()).device)
        self._teacher.eval().requires_grad_(False)
        alpha = self.bound["alpha"].value
        if alpha < 1:
            _join(network, self._teacher, lambda own, taught: interpolated_initialization(taught, own, alpha))

    def quantity(self, name: str, step: Step) -> Float[Tensor, "batch outputs"]:
        logits: Tensor = self._objective.run(self._teacher, mapped(torch.detach, step.inputs), step.batch)
        return logits

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        temperatures = (self.value(step, f"{who}_temperature") for who in ("student", "teacher"))
        return random_teacher(step.logits, step.teacher_logits, *temperatures)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": state_of(self._teacher)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self._teacher, state["teacher"])
