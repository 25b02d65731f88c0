"""Mean teacher: an exponential moving average of the student's weights."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


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
