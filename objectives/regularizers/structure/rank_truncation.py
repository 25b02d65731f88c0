"""Replacement of a weight by its low-rank approximation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.common.counts import Count

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def rank_truncation(
    matrix: Float[Tensor, "out *rest"], *, energy: float | Float[Tensor, ""] = 0.9
) -> Float[Tensor, "out *rest"]:
    """Best approximation of the smallest rank that keeps the share ``energy`` of the squared singular values.

    The weight is seen as its first axis against all others.

    Args:
        energy: in (0, 1]; 1 changes nothing but rounding.

    Source: "Trained Rank Pruning for Efficient Deep Neural Networks" (arXiv 2004.14566, section 3.1).

    >>> rank_truncation(torch.diag(torch.tensor([3.0, 1.0])), energy=0.9)
    tensor([[3., 0.],
            [0., 0.]])
    """
    left, values, right = torch.linalg.svd(matrix.flatten(1), full_matrices=False)
    # Double precision, or small directions would be lost in the sum even when all energy is to be kept.
    energies = values.detach().to(torch.float64).square()
    # A direction is kept while the energy of those before it is not enough.
    before = torch.cat([energies.new_zeros(1), energies.cumsum(0)[:-1]])
    kept = before < energy * energies.sum()
    truncated: Tensor = (left * (values * kept)) @ right
    return truncated.reshape(matrix.shape)


@register
class RankTruncation(Regularizer):
    """Replaces weights by their low-rank approximations in every ``every``-th training step.

    The smallest ranks are taken that keep the share ``energy`` of the squared singular values. ``parts`` says of
    which layers; by default of all. Convolutions are seen as matrices of their first axis against all others.
    """

    name = "rank_truncation"
    family = "structure"
    kind = "proximal"
    reference = Reference("Trained Rank Pruning for Efficient Deep Neural Networks", "2004.14566")
    hyperparameters = (
        Hyperparameter("energy", Unit(sweep=(0.9, 0.999)), 0.9, smooth=False, shared=True),
        Hyperparameter("every", Count(1, 1000, sweep=(1, 20)), 1, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"parameters"})
    per_layer = True

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        if step.number % values["every"]:
            return parameter
        return rank_truncation(parameter, energy=values["energy"])
