"""RankMe: the effective rank of embeddings, and the choice of a trial by it."""

from __future__ import annotations

from typing import Literal

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Int, Tensor

_REFERENCE = Reference(
    "RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank",
    "2210.02885",
)


@diagnostic(
    family="representation",
    reference=_REFERENCE,
    needs={"embeddings": "view_a"},
    better="max",
)
def rank_me(embeddings: Float[Tensor, "n d"], eps: float = 1e-7) -> Float[Tensor, ""]:
    """Exponential of the entropy of the normalised singular values; between 1 and min(n, d), up to ``eps``.

    Embeddings are neither centred nor normalised. Singular values are computed in float64, without gradient.

    Args:
        eps: added to every normalised singular value.

    Source: "RankMe: Assessing the downstream performance of pretrained self-supervised representations by their
    rank" (arXiv 2210.02885, equation 1).

    >>> rank_me(torch.eye(3)), rank_me(torch.ones(4, 1))
    (tensor(3.), tensor(1.0000))
    """
    singular_values = torch.linalg.svdvals(embeddings.detach().double())
    shares = singular_values / singular_values.sum().clamp_min(torch.finfo(torch.float64).tiny) + eps
    return torch.exp(-torch.xlogy(shares, shares).sum()).to(embeddings.dtype)


@diagnostic(family="representation", reference=_REFERENCE)
def rank_me_select(
    scores: Float[Tensor, "trials"],
    values: Float[Tensor, "trials"],
    tolerance: float = 0.0,
    prefer: Literal["largest", "smallest"] = "largest",
) -> Int[Tensor, ""]:
    """Index of the trial with the extreme hyperparameter value among those whose rank ties at the top.

    Hyperparameters are chosen one at a time. ``prefer`` should point to less regularisation of the spread: to the
    smallest variance weight that reaches the top rank, to the largest temperature.

    Args:
        scores: RankMe of every trial.
        values: value of the hyperparameter of every trial.
        tolerance: relative difference in rank that counts as a tie, in [0, 1].

    Raises:
        ValueError: if ``prefer`` is neither largest nor smallest, or a score is NaN.

    Source: "RankMe: Assessing the downstream performance of pretrained self-supervised representations by their
    rank" (arXiv 2210.02885); the tolerance is ours.

    >>> rank_me_select(torch.tensor([5.0, 9.0, 9.0]), torch.tensor([3.0, 1.0, 2.0]))
    tensor(2)
    """
    if prefer not in ("largest", "smallest"):
        raise ValueError(f"prefer must be largest or smallest, got {prefer}")
    if scores.isnan().any():
        raise ValueError("a score is NaN; leave out trials that diverged")
    wanted = values if prefer == "largest" else -values
    wanted = torch.where(scores >= (1 - tolerance) * scores.max(), wanted, -torch.inf)
    return (wanted == wanted.max()).nonzero()[0, 0]
