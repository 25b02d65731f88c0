"""Sum of the absolute Haar detail coefficients of an image."""

from __future__ import annotations

import torch
from selftune.objectives.mathematics.smoothed_absolute import smoothed_absolute

from selftune.hyperparameters import Choice, Hyperparameter, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


@penalty(
    family="dynamics",
    reference=Reference("Ideal spatial adaptation by wavelet shrinkage (Donoho and Johnstone, 1994)"),
    strength=Positive(sweep=(1e-5, 1.0)),
    default=1e-2,
    needs={"x": "reconstruction"},
    hyperparameters=[
        Hyperparameter("levels", Choice((1, 2, 3, 4, 5)), 1, online=False, smooth=False, swept=False),
        Hyperparameter("smoothing", Interval(0.0, sweep=(0.0, 1e-2)), 0.0),
    ],
)
def wavelet_sparsity(
    x: Float[Tensor, "batch channels height width"],
    *,
    levels: int = 1,
    smoothing: float | Float[Tensor, "*batch"] = 0.0,
) -> Float[Tensor, "batch"]:
    """Sum of ``sqrt(detail^2 + smoothing^2)`` over the details of an orthonormal Haar transform.

    Every level transforms the approximation of the level before; the last approximation costs nothing.

    Args:
        levels: at least 1.
        smoothing: not negative; shape () or (batch,).

    Raises:
        ValueError: if height or width is not a multiple of 2^levels.

    Source: "Ideal spatial adaptation by wavelet shrinkage" (Donoho and Johnstone, 1994), for the Haar basis.

    >>> wavelet_sparsity(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
    tensor([1.5000])
    """
    if x.shape[-2] % 2**levels or x.shape[-1] % 2**levels:
        raise ValueError(f"{levels} levels need sides divisible by {2**levels}, got {tuple(x.shape[-2:])}")
    total = x.new_zeros(len(x))
    for _ in range(levels):
        x, details = _haar(x)
        total = total + smoothed_absolute(details, per_example(smoothing, details)).sum(dim=(1, 2, 3, 4))
    return total


def _haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level: the approximation (batch, channels, h/2, w/2), and the three details stacked along axis 1."""
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    upper, lower, left, right = a + b, c + d, a - b, c - d
    return (upper + lower) / 2, torch.stack([left + right, upper - lower, left - right], dim=1) / 2
