"""Gradient clipping by the norm of the whole gradient."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


def gradient_clipping(gradients: list[Tensor], max_norm: float | Float[Tensor, ""] = 1.0) -> tuple[Tensor, ...]:
    """Rescales all gradients by one factor, so that their joint Euclidean norm is at most ``max_norm``.

    Args:
        max_norm: positive.

    Source: "On the Difficulty of Training Recurrent Neural Networks" (arXiv 1211.5063, algorithm 1).

    >>> gradient_clipping([torch.tensor([3.0]), torch.tensor([4.0])], max_norm=1.0)
    (tensor([0.6000]), tensor([0.8000]))
    """
    total = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    factor = (max_norm / (total + EPS)).clamp(max=1)
    return tuple(factor * gradient for gradient in gradients)


@register
class GradientClipping(Regularizer):
    """Limits the gradient before the optimizer's step, after everything else that changes it.

    ``mode: norm`` rescales the whole gradient to a Euclidean norm of at most ``max_norm``; ``mode: value``
    clamps every entry to [-max_norm, max_norm].
    """

    name = "gradient_clipping"
    family = "supervision"
    kind = "gradient"
    reference = Reference("On the Difficulty of Training Recurrent Neural Networks", "1211.5063")
    hyperparameters = (
        Hyperparameter("max_norm", Positive(sweep=(0.1, 10.0)), 1.0, smooth=False, shared=True),
        Hyperparameter("mode", Choice(("norm", "value")), "norm", online=False, smooth=False),
    )
    needs = frozenset({"gradients"})
    order = "clipping"

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        limit = self.value(step, "max_norm")
        if self.value(step, "mode") == "value":
            for gradient in gradients.values():
                gradient.clamp_(-limit, limit)
            return
        clipped = gradient_clipping(list(gradients.values()), limit)
        for gradient, changed in zip(gradients.values(), clipped, strict=True):
            gradient.copy_(changed)
