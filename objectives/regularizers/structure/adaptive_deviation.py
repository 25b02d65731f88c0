"""A residual branch with BatchNorm that gets back the deviation of every sample."""

from __future__ import annotations

from selftune.shapes import Float, Tensor


def adaptive_deviation(
    transformed: Float[Tensor, "batch c h w"],
    skip: Float[Tensor, "batch c h w"],
    *,
    slope: float | Float[Tensor, ""] = 1.5,
    offset: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, "batch c h w"]:
    """``transformed * (slope * s + offset) + skip`` with s the standard deviation of every sample of ``skip``.

    The deviation is the unbiased one over channels and pixels, of which there must be more than one; gradients
    flow through it.

    Args:
        transformed: output of the branch, which starts with a BatchNorm.
        skip: what the branch is added to.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839), adaptive deviation for quantization.

    >>> import torch
    >>> skip = torch.tensor([[[[0.0, 2.0, 4.0]]]])  # standard deviation 2
    >>> adaptive_deviation(torch.ones(1, 1, 1, 3), skip)
    tensor([[[[3., 5., 7.]]]])
    """
    deviation = skip.std(dim=(1, 2, 3), keepdim=True)
    return transformed * (slope * deviation + offset) + skip
