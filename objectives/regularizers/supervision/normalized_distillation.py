"""Normalized knowledge distillation: target and non-target classes apart."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Float, Int, Tensor


@penalty(
    family="supervision",
    reference=Reference(
        "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and"
        " Customized Soft Labels",
        "2303.13005",
    ),
    strength=Positive(sweep=(0.1, 10.0)),
    default=1.0,
    needs={"student_logits": "logits", "teacher_logits": "teacher_logits", "labels": "labels"},
    hyperparameters=[
        Hyperparameter("gamma", Positive(sweep=(0.5, 3.0)), 1.5),
        Hyperparameter("temperature", Positive(sweep=(1.0, 4.0)), 1.0),
    ],
)
def normalized_distillation(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch"],
    gamma: float | Float[Tensor, "*gamma"] = 1.5,
    temperature: float | Float[Tensor, "*temperature"] = 1.0,
) -> Float[Tensor, "batch"]:
    """Cross-entropy weighted by the teacher's confidence, plus distillation among the other classes alone.

    The other classes' logits are normalised by themselves, so that teacher and student sum to the same. Used
    in addition to the ordinary cross-entropy. No gradient flows to the teacher.

    Args:
        gamma: weight of the non-target part, at least 0.
        temperature: of the non-target part, positive.

    Source: "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss
    and Customized Soft Labels" (arXiv 2303.13005).

    >>> normalized_distillation(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]), gamma=1.0)
    tensor([1.0594])
    """
    teacher_logits = teacher_logits.detach()
    confidence = _of_target(teacher_logits.softmax(dim=-1), labels)
    target = -confidence * _of_target(student_logits.log_softmax(dim=-1), labels)
    divisor = per_example(temperature, student_logits)
    teacher = (_without_target(teacher_logits, labels) / divisor).softmax(dim=-1)
    student = (_without_target(student_logits, labels) / divisor).log_softmax(dim=-1)
    losses: Tensor = target - gamma * temperature**2 * (teacher * student).sum(dim=-1)
    return losses


def _of_target(values: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    return values.gather(1, labels[:, None]).squeeze(1)


def _without_target(
    values: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
) -> Float[Tensor, "batch others"]:
    """The values of the other classes in their order; indices, because a mask would wait for the device."""
    others = torch.arange(values.shape[1] - 1, device=values.device).expand(len(values), -1)
    return values.gather(1, others + (others >= labels[:, None]).to(others.dtype))
