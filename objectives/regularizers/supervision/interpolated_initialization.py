"""Interpolated initialisation: a student that starts near its teacher."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def interpolated_initialization(
    teacher_parameter: Float[Tensor, "*shape"],
    random_parameter: Float[Tensor, "*shape"],
    alpha: float | Float[Tensor, ""],
) -> Float[Tensor, "*shape"]:
    """``((1 - alpha) * teacher + alpha * random) / sqrt(alpha^2 + (1 - alpha)^2)``.

    The divisor keeps the variance of two independent initialisations of one scale.

    Args:
        teacher_parameter: no gradient flows to it.
        alpha: distance from the teacher, in [0, 1]; 1 gives an independent student.

    Source: "Random Teachers are Good Teachers" (arXiv 2302.12091).

    >>> import torch
    >>> interpolated_initialization(torch.tensor([3.0]), torch.tensor([4.0]), alpha=0.0)
    tensor([3.])
    """
    scale = (alpha**2 + (1 - alpha) ** 2) ** 0.5
    return ((1 - alpha) * teacher_parameter.detach() + alpha * random_parameter) / scale
