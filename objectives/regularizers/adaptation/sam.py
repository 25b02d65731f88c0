"""Sharpness-aware minimisation: the step to the worst point nearby."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from selftune.shapes import Float, Tensor


def sam(
    parameters: Sequence[Float[Tensor, "*shape"]],
    gradients: Sequence[Float[Tensor, "*shape"]],
    rho: float | Float[Tensor, ""] = 0.05,
    adaptive: bool = False,
    epsilon: float = 1e-12,
) -> tuple[Float[Tensor, "*shape"], ...]:
    """Perturbations of length ``rho``, over all parameters jointly, up the gradient.

    Training steps with the gradient at the perturbed parameters, on the same batch, from the unperturbed ones.
    The adaptive form measures length relative to the size of every parameter.

    Args:
        rho: not negative.
        epsilon: positive, added to the norm.

    Source: "Sharpness-Aware Minimization for Efficiently Improving Generalization" (arXiv 2010.01412, equation 2);
    adaptive: "ASAM" (arXiv 2102.11600).

    >>> sam([torch.ones(2)], [torch.tensor([3.0, 4.0])], rho=1.0)
    (tensor([0.6000, 0.8000]),)
    """
    scales = [p.abs() for p in parameters] if adaptive else [torch.ones_like(p) for p in parameters]
    scaled = [scale * gradient for scale, gradient in zip(scales, gradients, strict=True)]
    norm = torch.stack([torch.linalg.vector_norm(each) for each in scaled]).norm()
    step = rho / (norm + epsilon)
    return tuple(step * scale * each for scale, each in zip(scales, scaled, strict=True))
