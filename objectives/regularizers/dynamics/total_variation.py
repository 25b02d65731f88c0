"""Smoothed total variation of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from selftune.objectives.mathematics.smoothed_absolute import safe_root, smoothed_absolute

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity(
        "reconstruction", ("batch", "channels", "height", "width"), "float", "an image that the network puts out"
    ),
)


@penalty(
    family="dynamics",
    reference=Reference("An adaptively inexact first-order method for bilevel optimization", "2308.10098"),
    strength=Positive(sweep=(4.5e-5, 1.0)),
    default=1e-2,
    needs={"x": "reconstruction"},
    hyperparameters=[
        Hyperparameter("smoothing", Positive(sweep=(4.5e-5, 0.1)), 1e-3),
        Hyperparameter("isotropic", Choice((True, False)), True, online=False, smooth=False),
    ],
)
def total_variation(
    x: Float[Tensor, "batch channels height width"],
    *,
    smoothing: float | Float[Tensor, "*batch"] = 1e-3,
    isotropic: bool = True,
) -> Float[Tensor, "batch"]:
    """Sum over the pixels of the smoothed length of the image's gradient.

    Isotropic: ``sqrt(down^2 + right^2 + smoothing^2)`` at every pixel, with differences across the border zero.
    Anisotropic: the smoothed absolute values of all differences inside the image. Nothing is subtracted: a
    constant image has the isotropic value ``smoothing * channels * height * width``. Without smoothing the
    gradient at zero differences is zero.

    Args:
        smoothing: not negative; shape () or (batch,).

    Source: classical; smoothed as in "An adaptively inexact first-order method for bilevel optimization with
    application to hyperparameter learning" (arXiv 2308.10098), without its factor one half.

    >>> x = torch.tensor([[[[0.0, 4.0], [3.0, 4.0]]]])
    >>> total_variation(x, smoothing=0.0), total_variation(x, smoothing=0.0, isotropic=False)
    (tensor([6.]), tensor([8.]))
    """
    down, right = torch.diff(x, dim=2), torch.diff(x, dim=3)
    smoothing = per_example(smoothing, x)
    if isotropic:
        squares = F.pad(down.square(), (0, 0, 0, 1)) + F.pad(right.square(), (0, 1))
        return safe_root(squares + smoothing**2).sum(dim=(1, 2, 3))
    lengths = (smoothed_absolute(differences, smoothing) for differences in (down, right))
    vertical, horizontal = (length.sum(dim=(1, 2, 3)) for length in lengths)
    return vertical + horizontal
