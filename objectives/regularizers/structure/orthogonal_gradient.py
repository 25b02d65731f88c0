"""The gradient without its part along the weights."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def orthogonal_gradient(
    gradient: Float[Tensor, "*shape"],
    parameter: Float[Tensor, "*shape"],
    *,
    epsilon: float | Float[Tensor, ""] = 1e-30,
) -> Float[Tensor, "*shape"]:
    """The gradient projected orthogonally to the parameter tensor and scaled back to its own norm.

    What is removed only scales the logits once the training data are fitted. A gradient (numerically) parallel to
    the parameter leaves rounding errors, scaled up.

    Args:
        epsilon: positive, added to the denominators.

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, perpGrad).

    >>> orthogonal_gradient(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]))
    tensor([0., 5.])
    """
    along = (parameter * gradient).sum() / (parameter.square().sum() + epsilon)
    orthogonal: Tensor = gradient - along * parameter
    scale: Tensor = torch.linalg.vector_norm(gradient) / (torch.linalg.vector_norm(orthogonal) + epsilon)
    return orthogonal * scale
