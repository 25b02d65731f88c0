"""Strengths of several symmetries by how much the data forced each to be violated."""

from __future__ import annotations

import torch

from selftune.registries.reference import Reference
from selftune.registries.solvers import solver
from selftune.shapes import Float, Tensor


@solver(
    family="adaptation",
    reference=Reference("Regularizing Towards Soft Equivariance Under Mixed Symmetries", "2306.00356"),
)
def soft_equivariance_strengths(
    strengths: Float[Tensor, "symmetries"],
    penalties: Float[Tensor, "symmetries"],
    power: float | Float[Tensor, ""] = 2.0,
) -> Float[Tensor, "symmetries"]:
    """Divides every strength by ``(penalty / smallest penalty) ** power``.

    The smallest penalty is that among symmetries with a strength; a strength of zero stays zero. Where the
    smallest penalty is zero, its symmetry keeps its strength and the violated ones lose theirs.

    Args:
        strengths: not negative.
        penalties: soft-equivariance penalties of the network after a warm-up with equal strengths, not negative.
        power: not negative.

    Source: "Regularizing Towards Soft Equivariance Under Mixed Symmetries" (arXiv 2306.00356).

    >>> soft_equivariance_strengths(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([2.0, 4.0, 1.0]))
    tensor([1.0000, 0.2500, 0.0000])
    """
    used = strengths != 0
    smallest = penalties.masked_fill(~used, torch.inf).min()
    # the least violated symmetry has the ratio one even where its penalty is zero
    violated = used & (penalties != smallest)
    ratios = torch.where(violated, smallest / torch.where(violated, penalties, 1), 1)
    return strengths * ratios**power
