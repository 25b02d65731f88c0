"""How much training only scales the logits: alignment of descent direction and weights."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def naive_loss_alignment(
    gradient: Float[Tensor, "*shape"], parameter: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Cosine between minus the gradient and the parameters, in [-1, 1]; near 1, training only scales the logits.

    For all parameters together, pass their concatenation. The product of the norms counts as at least 1e-12.

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, naive loss minimization).

    >>> naive_loss_alignment(torch.tensor([-3.0, 4.0]), torch.tensor([1.0, 0.0]))
    tensor(0.6000)
    """
    norms = torch.linalg.vector_norm(gradient) * torch.linalg.vector_norm(parameter)
    cosine: Tensor = -(gradient * parameter).sum() / norms.clamp_min(1e-12)
    return cosine
