"""InfoNCE: every anchor picks its own candidate out of all."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


@penalty(
    family="representation",
    reference=Reference("Representation Learning with Contrastive Predictive Coding", "1807.03748"),
    strength=Positive(sweep=(0.01, 10.0)),
    default=1.0,
    needs={"anchors": "view_a", "candidates": "view_b"},
    hyperparameters=[Hyperparameter("temperature", Positive(sweep=(0.03, 1.0)), 0.1)],
)
def info_nce(
    anchors: Float[Tensor, "batch dim"],
    candidates: Float[Tensor, "count dim"],
    temperature: float | Float[Tensor, "*batch"] = 0.1,
) -> Float[Tensor, "batch"]:
    """Cross-entropy of finding candidate i, by cosine similarity, as the match of anchor i among all candidates.

    Rows of ``candidates`` beyond ``batch`` are further negatives. No gradient is stopped; candidates of an
    averaged teacher or a queue are detached by the caller. Never negative.

    Args:
        temperature: positive; shape () or, one per anchor, (batch,).

    Raises:
        ValueError: if there are fewer candidates than anchors.

    Source: "Representation Learning with Contrastive Predictive Coding" (arXiv 1807.03748, equation 4), with
    cosine similarities as in SimCLR.

    >>> info_nce(torch.eye(2), torch.eye(2), temperature=1.0)
    tensor([0.3133, 0.3133])
    """
    if len(candidates) < len(anchors):
        raise ValueError(f"{len(anchors)} anchors need as many candidates or more, got {len(candidates)}")
    similarities: Tensor = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).T
    similarities = similarities / per_example(temperature, similarities)
    return torch.logsumexp(similarities, dim=-1) - similarities.diagonal()
