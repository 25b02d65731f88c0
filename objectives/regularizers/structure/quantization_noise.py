"""Noise of the size of a quantisation step, mixed over the bit widths in competition."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Int, Tensor


def quantization_noise(
    values: Float[Tensor, "*shape"],
    noise: Float[Tensor, "bits *shape"],
    shares: Float[Tensor, "bits"],
    bits: Int[Tensor, "bits"],
) -> Float[Tensor, "*shape"]:
    """Mix of the values (share ``1 / (n + 1)`` for n bit widths) and one noisy copy of them per bit width.

    The copies carry no gradient to the values; the gradient of the mix reaches the shares. The shares are divided
    by their sum plus the values' own share, so the weights of the mix need not add up to one.

    Args:
        noise: one draw per entry and bit width, of standard deviation 1/2 (Gaussian) or uniform in [-1/2, 1/2];
            it is scaled by the quantisation step ``(max - min) / (2 ** bits - 1)`` of the whole tensor.
        shares: mixing weights of the bit widths, not negative.
        bits: bit widths, at least 1.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839).

    >>> x, noise = torch.tensor([0.0, 3.0]), torch.tensor([[0.5, -0.5]])
    >>> quantization_noise(x, noise, torch.tensor([0.5]), torch.tensor([2]))  # half of x, half of x + noise
    tensor([0.2500, 2.7500])
    """
    own = 1 / (len(bits) + 1)
    weights = shares / (shares.sum() + own)
    fixed = values.detach()
    steps = (fixed.amax() - fixed.amin()) / (torch.exp2(bits.to(values.dtype)) - 1)
    mix: Tensor = own * values + weights.sum() * fixed + torch.tensordot(weights * steps, noise, dims=1)
    return mix
