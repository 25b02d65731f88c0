"""Mean teacher: an exponential moving average of the student's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter, Unit
from selftune.networks.inventory import tensors_of
from selftune.networks.precision import widened
from selftune.networks.sharded_weights import whole
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity(
        "teacher_logits",
        ("batch", "classes"),
        "float",
        "outputs of a teacher: an average of the weights, or another network",
        like="logits",
    ),
    Quantity(
        "teacher_parameters",
        None,
        "parameters",
        "the teacher's tensors by name, where it is an average of the weights",
    ),
)


def mean_teacher(
    teacher: Float[Tensor, "*shape"],
    student: Float[Tensor, "*shape"],
    decay: float | Float[Tensor, ""] = 0.999,
) -> Float[Tensor, "*shape"]:
    """``decay * teacher + (1 - decay) * student``, without gradient.

    Args:
        decay: in [0, 1]. With ``min(1 - 1 / (t + 1), decay)`` at update t = 0, 1... the teacher is the plain
            average of the students until the decay is reached.

    Source: "Mean Teachers are Better Role Models" (arXiv 1703.01780); "Continual Test-Time Domain
    Adaptation" (arXiv 2203.13591).

    >>> import torch
    >>> mean_teacher(torch.tensor([1.0]), torch.tensor([2.0]), decay=0.75)
    tensor([1.2500])
    """
    return (decay * teacher + (1 - decay) * student).detach()


@register
class MeanTeacher(Regularizer):
    """A teacher for other regularizers: the moving average of the network's weights over training steps.

    It provides ``teacher_logits`` and ``teacher_parameters``. Buffers, such as running statistics, are copied.
    With ``statistics: batch`` its normalisation layers use the statistics of the batch, as in training.
    Averages of weights of half precision are kept in float32, where 0.999 is not 1.
    With ``warm_up`` the first updates are plain averages; with ``export_teacher`` the exported network is the
    teacher.
    """

    name = "mean_teacher"
    family = "supervision"
    kind = "target"
    reference = Reference("Mean Teachers are Better Role Models", "1703.01780")
    hyperparameters = (
        Hyperparameter("decay", Unit(sweep=(0.9, 0.9999)), 0.999, smooth=False, shared=True),
        Hyperparameter("warm_up", Choice((False, True)), False, online=False, smooth=False),
        Hyperparameter("statistics", Choice(("running", "batch")), "running", online=False, smooth=False),
        Hyperparameter("export_teacher", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"parameters"})
    provides = frozenset({"teacher_logits", "teacher_parameters"})
    order = "average"  # of what masks have left of the weights

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._teacher: dict[str, Tensor] = {}
        self._updates = 0

    def attach(self, network: nn.Module) -> None:
        self._network = network

    def batch(self, step: Step) -> None:
        if not self._teacher:  # what other regularizers attached is in place by now
            weights = dict(self._network.named_parameters())
            self._teacher = {
                name: whole((widened(tensor) if name in weights else tensor).detach()).clone()
                for name, tensor in tensors_of(self._network).items()
            }

    def parameters(self, step: Step) -> None:
        decay = self.value(step, "decay")
        if self.bound["warm_up"].value:
            decay = decay.clamp(max=1 - 1 / (self._updates + 1))
        names = list(step.parameters)
        students = [widened(parameter.detach()) for parameter in step.parameters.values()]
        teachers = [self._teacher[name] for name in names]
        torch._foreach_mul_(teachers, decay.to(teachers[0].dtype))  # mean_teacher of all tensors in three calls
        torch._foreach_add_(teachers, torch._foreach_mul(students, (1 - decay).to(teachers[0].dtype)))
        for name, buffer in self._network.named_buffers():
            self._teacher[name].copy_(buffer)
        self._updates += 1

    def quantity(self, name: str, step: Step) -> Any:
        if name == "teacher_parameters":
            return self._teacher
        of_batch = self.bound["statistics"].value == "batch"
        return step.asks.pass_copy(step, self._teacher, step.inputs.detach(), of_batch).logits

    def export(self, state: dict[str, Tensor]) -> None:
        if self.bound["export_teacher"].value:
            state.update({name: tensor for name, tensor in self._teacher.items() if name in state})

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self._teacher, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = next(self._network.parameters()).device
        self._teacher = {name: tensor.to(device) for name, tensor in state["teacher"].items()}
        self._updates = state["updates"]
