"""Nested dropout: only the first k features are kept."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def nested_dropout(
    features: Float[Tensor, "batch d"],
    uniform: Float[Tensor, ""],
    mean: float | Float[Tensor, ""] = 0.0,
    std: float | Float[Tensor, ""] = 100.0,
) -> Float[Tensor, "batch d"]:
    """Zeroes all features but the first k, with ``P(k) ~ exp(-((k - mean) / std)^2)``, k = 1..d; no rescaling.

    It orders features by importance and limits the capacity left for memorising noise.

    Args:
        uniform: a draw from [0, 1), one for the batch; k grows with it.
        mean, std: of the distribution of k; std is positive (there is no factor 1/2 in the exponent).

    Source: "Compressing Features for Learning with Noisy Labels" (arXiv 2206.13140).

    >>> nested_dropout(torch.ones(1, 4), torch.tensor(0.6), std=float("inf"))
    tensor([[1., 1., 1., 0.]])
    """
    width = features.shape[-1]
    precision = torch.promote_types(features.dtype, torch.float32)  # half precision cannot sum many features
    k = torch.arange(1, width + 1, device=features.device, dtype=precision)
    cumulative = torch.softmax(-(((k - mean) / std) ** 2), dim=0).cumsum(dim=0)
    # feature i (from 0) is kept iff k > i, that is iff P(k <= i) <= uniform; the first always is
    kept = torch.cat([k[:1] > 0, cumulative[:-1] <= uniform])
    return features * kept
