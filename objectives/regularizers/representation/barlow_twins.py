"""Barlow Twins: the cross-correlation of two views should be the identity."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.shapes import Float, Tensor


@penalty(
    family="representation",
    reference=Reference("Barlow Twins: Self-Supervised Learning via Redundancy Reduction", "2103.03230"),
    strength=Positive(sweep=(0.01, 10.0)),
    default=1.0,
    needs={"view_a": "view_a", "view_b": "view_b"},
    hyperparameters=[Hyperparameter("off_diagonal_weight", Positive(sweep=(1e-4, 0.1)), 0.0051, shared=True)],
)
def barlow_twins(
    view_a: Float[Tensor, "n dim"],
    view_b: Float[Tensor, "n dim"],
    off_diagonal_weight: float | Float[Tensor, ""] = 0.0051,
    eps: float = 1e-5,
) -> Float[Tensor, ""]:
    """Squared distance of the views' cross-correlation matrix from the identity, off-diagonal entries weighted.

    Columns are standardised over the batch.

    Args:
        off_diagonal_weight: positive.
        eps: positive, added to the (biased) variances.

    Raises:
        ValueError: if there is a single row.

    Source: "Barlow Twins: Self-Supervised Learning via Redundancy Reduction" (arXiv 2103.03230, equation 1).

    >>> view = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    >>> barlow_twins(view, view, off_diagonal_weight=0.5)
    tensor(1.0000)
    """
    a, b = (F.batch_norm(view, None, None, training=True, eps=eps) for view in (view_a, view_b))
    correlation = a.T @ b / len(a)
    itself = torch.eye(len(correlation), dtype=torch.bool, device=correlation.device)
    diagonal = (1 - correlation.diagonal()).square().sum()
    return diagonal + off_diagonal_weight * correlation.masked_fill(itself, 0).square().sum()
