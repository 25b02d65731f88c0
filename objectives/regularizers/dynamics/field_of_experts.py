"""Fields of Experts: smoothed absolute responses of a bank of filters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from selftune.objectives.smoothed_absolute import smoothed_absolute

from selftune.shapes import Float, Tensor


def field_of_experts(
    x: Float[Tensor, "batch 1 height width"],
    filters: Float[Tensor, "experts 1 k k"],
    log_weights: Float[Tensor, "experts"],
    log_smoothing: Float[Tensor, "experts"],
) -> Float[Tensor, "batch"]:
    """Weighted sum over filters and pixels of ``sqrt(response^2 + smoothing^2)``.

    Responses are cross-correlations of the image's size, the image reflected at its border without repeating the
    border pixel. A weight of the whole sum is the caller's strength.

    Args:
        filters: of zero mean by convention; k odd.
        log_weights, log_smoothing: natural logarithms of every expert's weight and smoothing length.

    Raises:
        ValueError: if the image has more than one channel or is no larger than (k - 1) / 2, or k is even.

    Source: "Fields of Experts" (Roth and Black, 2009), in the form learned in "An adaptively inexact first-order
    method for bilevel optimization with application to hyperparameter learning" (arXiv 2308.10098), without its
    factor one half.

    >>> x = torch.tensor([[[[0.0, 1.0, 2.0]] * 3]])
    >>> ahead = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]]])
    >>> field_of_experts(x, ahead, torch.zeros(1), torch.full((1,), -20.0))
    tensor([9.])
    """
    size = filters.shape[-1]
    if size % 2 == 0:
        raise ValueError(f"filters need an odd size, got {size}")
    if x.shape[1] != 1 or min(x.shape[-2:]) <= size // 2:
        raise ValueError(f"filters of size {size} need larger images of one channel, got shape {tuple(x.shape)}")
    responses = F.conv2d(F.pad(x, (size // 2,) * 4, mode="reflect"), filters)
    lengths = smoothed_absolute(responses, log_smoothing.exp()[:, None, None])
    return lengths.sum(dim=(2, 3)) @ torch.exp(log_weights)
