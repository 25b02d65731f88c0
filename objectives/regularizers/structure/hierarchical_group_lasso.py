"""Nested group lasso on the components of a factorised layer."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def hierarchical_group_lasso(up: Float[Tensor, "out rank"], down: Float[Tensor, "rank in"]) -> Float[Tensor, ""]:
    """Sum over all tails of components of the Frobenius norms of their columns in ``up`` and rows in ``down``.

    A later component is in more tails and is pushed to zero first. The gradient at a tail that is zero is taken as
    zero, so that what has vanished does not come back by itself.

    Source: "Maestro: Uncovering Low-Rank Structures via Trainable Decomposition" (arXiv 2308.14929, section 3.3).

    >>> hierarchical_group_lasso(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0], [1.0]]))  # 5 + 4 + 1 + 1
    tensor(11.)
    """
    return _tail_norms(up, down).sum()


def _tail_norms(up: Float[Tensor, "out rank"], down: Float[Tensor, "rank in"]) -> Float[Tensor, "2 rank"]:
    """Frobenius norms of the tails of the columns of ``up`` and of the rows of ``down``."""
    squares = torch.stack([up.square().sum(dim=0), down.square().sum(dim=1)])
    tails = squares.flip(1).cumsum(dim=1).flip(1)
    positive = tails > 0
    return torch.where(positive, tails, 1).sqrt().masked_fill(~positive, 0)


@register
class HierarchicalGroupLasso(Regularizer):
    """Pushes the components of factorised layers to zero, the last ones first; added up over layers."""

    name = "hierarchical_group_lasso"
    family = "structure"
    kind = "penalty"
    reference = Reference("Maestro: Uncovering Low-Rank Structures via Trainable Decomposition", "2308.14929")
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(1e-5, 1e-1)), 5e-3, shared=True),)
    needs = frozenset({"factors"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        return torch.stack([hierarchical_group_lasso(up, down) for up, down, _ in step.factors]).sum()
