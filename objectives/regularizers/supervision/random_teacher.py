"""Random teachers: distillation from a network that was never trained."""

from __future__ import annotations

from selftune.regularizer import per_example
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
    return -(teacher.softmax(dim=-1) * student.log_softmax(dim=-1)).sum(dim=-1)
