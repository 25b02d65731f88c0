"""Entropy of the choices in a supernet for architecture search."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def architecture_entropy(alphas: Float[Tensor, "blocks operations"]) -> Float[Tensor, ""]:
    """Sum over blocks of the entropy (in nats) of the block's distribution over operations, softmax(alphas).

    From blocks * log(operations) for uniform choices down to 0 when every block has settled on one.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839).

    >>> architecture_entropy(torch.zeros(2, 4))  # 2 log 4
    tensor(2.7726)
    """
    log_shares = torch.log_softmax(alphas, dim=1)
    return -(log_shares.exp() * log_shares).sum()
