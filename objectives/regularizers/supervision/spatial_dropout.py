"""Spatial dropout: dropout of whole channels."""

from __future__ import annotations

from selftune.regularizer import per_example
from selftune.shapes import Float, Tensor


def spatial_dropout(
    inputs: Float[Tensor, "batch channels *spatial"],
    uniform: Float[Tensor, "batch channels"],
    rate: float | Float[Tensor, "*rate"] = 0.1,
) -> Float[Tensor, "batch channels *spatial"]:
    """Zeroes whole feature maps whose draw is below ``rate`` and divides the others by ``1 - rate``.

    Args:
        uniform: draws from [0, 1), one per map.
        rate: in [0, 1); one for all or one per example.

    Source: "Efficient Object Localization Using Convolutional Networks" (arXiv 1411.4280, section 3.2).

    >>> import torch
    >>> spatial_dropout(torch.ones(1, 2, 3), torch.tensor([[0.1, 0.7]]), 0.5)
    tensor([[[0., 0., 0.],
             [2., 2., 2.]]])
    """
    rate = per_example(rate, uniform)
    scale = (uniform >= rate).to(inputs.dtype) / (1 - rate)
    return inputs * scale.view(*scale.shape, *([1] * (inputs.ndim - 2)))
