"""Gradient clipping by the norm of the whole gradient."""

from __future__ import annotations

import torch

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
