"""Weight compander: a saturating odd curve between the trained values and the weights."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def weight_compander(
    values: Float[Tensor, "*shape"],
    *,
    amplitude: float | Float[Tensor, "#*shape"] = 1.0,
    width: float | Float[Tensor, "#*shape"] = 1.0,
) -> Float[Tensor, "*shape"]:
    """Weights ``amplitude * arctan(values / width)``: large ones are capped, small ones pushed away from zero.

    Their magnitude is below ``amplitude * pi / 2`` and the slope at zero is ``amplitude / width``.

    Args:
        amplitude, width: positive.

    Source: "Weight Compander: A Simple Weight Reparameterization for Regularization" (arXiv 2306.16993).

    >>> weight_compander(torch.tensor([0.0, 2.0]), amplitude=4 / torch.pi, width=2.0)
    tensor([0., 1.])
    """
    return amplitude * torch.atan(values / width)
