"""Tikhonov's quadratic energies of an image."""

from __future__ import annotations

from typing import Literal

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="dynamics",
    reference=Reference("An adaptively inexact first-order method for bilevel optimization", "2308.10098"),
    strength=Positive(sweep=(1e-5, 10.0)),
    default=1e-2,
    needs={"x": "reconstruction"},
    hyperparameters=[
        Hyperparameter("operator", Choice(("identity", "gradient")), "identity", online=False, smooth=False)
    ],
)
def tikhonov(
    x: Float[Tensor, "batch channels height width"], *, operator: Literal["identity", "gradient"] = "identity"
) -> Float[Tensor, "batch"]:
    """Half the sum of squares of the pixels, or of the differences between neighbouring pixels.

    Differences are those inside the image, none across its border.

    Raises:
        ValueError: if the operator is neither identity nor gradient.

    Source: classical; as in "An adaptively inexact first-order method for bilevel optimization with application to
    hyperparameter learning" (arXiv 2308.10098).

    >>> x = torch.tensor([[[[1.0, 3.0]]]])
    >>> tikhonov(x), tikhonov(x, operator="gradient")
    (tensor([5.]), tensor([2.]))
    """
    if operator == "identity":
        return 0.5 * x.square().sum(dim=(1, 2, 3))
    if operator == "gradient":
        down, right = torch.diff(x, dim=2), torch.diff(x, dim=3)
        return 0.5 * (down.square().sum(dim=(1, 2, 3)) + right.square().sum(dim=(1, 2, 3)))
    raise ValueError(f"operator must be identity or gradient, got {operator}")
