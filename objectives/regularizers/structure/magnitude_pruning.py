"""Magnitude pruning: the smallest weights are removed."""

from __future__ import annotations

import torch

from selftune.shapes import Bool, Float, Tensor


def magnitude_pruning(
    weight: Float[Tensor, "*shape"], *, sparsity: float | Float[Tensor, ""]
) -> Bool[Tensor, "*shape"]:
    """Mask of the weights to keep (True): all but the floor(sparsity * size) smallest in magnitude.

    Of equal magnitudes the one with the smaller flat index goes first. For several tensors at once, pass
    their concatenation.

    Args:
        sparsity: in [0, 1].

    Source: "Learning both Weights and Connections for Efficient Neural Networks" (arXiv 1506.02626).

    >>> magnitude_pruning(torch.tensor([3.0, -1.0, 1.0, -2.0]), sparsity=0.5)
    tensor([ True, False, False,  True])
    """
    size = weight.numel()
    # Double precision: in single, the product is no exact count beyond sixteen million weights.
    removed = torch.floor(torch.as_tensor(sparsity, dtype=torch.float64, device=weight.device) * size)
    order = weight.detach().abs().flatten().sort(stable=True).indices
    keep = torch.empty(size, dtype=torch.bool, device=weight.device)
    keep[order] = torch.arange(size, device=weight.device) >= removed
    return keep.view(weight.shape)
