"""Densities of sparse layers by the Erdos-Renyi rule: the smaller the layer, the denser."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from selftune.shapes import Float, Tensor


def erdos_renyi_sparsity(
    shapes: Sequence[Sequence[int]], *, density: float | Float[Tensor, ""], kernel: bool = True
) -> Float[Tensor, "layers"]:
    """Share of active weights of every layer, in (0, 1], so that ``density`` of all weights are active.

    A layer's density is proportional to the sum of its axes over their product (``kernel``), or to that of its
    first two axes only; layers that would exceed one are dense, and the others share what is left.

    Args:
        shapes: of the layers' weights, output axis first.
        density: in (0, 1].

    Returns:
        Densities in double precision: counts of weights come from them.

    Source: "Rigging the Lottery: Making All Tickets Winners" (arXiv 1911.11134, section 3); compared in "Continual
    Learning with Dynamic Sparse Training: Exploring Algorithms for Effective Model Updates" (arXiv 2308.14831).

    >>> erdos_renyi_sparsity(((2, 4), (8, 8)), density=0.5)
    tensor([1.0000, 0.4375], dtype=torch.float64)
    """
    density = torch.as_tensor(density, dtype=torch.float64)
    device = density.device
    kernels = [tuple(shape) if kernel else tuple(shape)[:2] for shape in shapes]
    raw = torch.tensor([sum(axes) / math.prod(axes) for axes in kernels], dtype=torch.float64, device=device)
    sizes = torch.tensor([math.prod(shape) for shape in shapes], dtype=torch.float64, device=device)

    # Sorted by raw density, the dense layers come first: as few as it takes for the next one to fit.
    order = raw.sort(descending=True, stable=True).indices
    raw_sorted, weighted = raw[order], (raw * sizes)[order]
    budget = density * sizes.sum() - (sizes[order].cumsum(0) - sizes[order])
    scales = budget / weighted.flip(0).cumsum(0).flip(0)
    fits = scales * raw_sorted <= 1
    fits[-1] = True  # true up to rounding, as the density is at most one
    dense = fits.to(torch.int64).argmax(dim=0, keepdim=True)
    # A dense layer has at least the raw density of the one that decides the scale, hence is clamped.
    return (scales[dense] * raw).clamp(max=1)
