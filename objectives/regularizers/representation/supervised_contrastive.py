"""Supervised contrastive learning: all examples of a class attract each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.step import per_example
from selftune.shapes import Float, Int, Tensor


@penalty(
    family="representation",
    reference=Reference("Supervised Contrastive Learning", "2004.11362"),
    strength=Positive(sweep=(0.01, 10.0)),
    default=1.0,
    needs={"embeddings": "features", "labels": "labels"},
    hyperparameters=[Hyperparameter("temperature", Positive(sweep=(0.05, 0.5)), 0.1)],
)
def supervised_contrastive(
    embeddings: Float[Tensor, "n dim"],
    labels: Int[Tensor, "n"],
    temperature: float | Float[Tensor, "*n"] = 0.1,
) -> Float[Tensor, "n"]:
    """Mean negative log-probability of an anchor's positives among all other rows, by cosine similarity.

    Positives are the other rows of the same label; an anchor without any has the value zero. Several views of an
    example are further rows with the same label. The factor temperature / base temperature is left out.

    Args:
        temperature: positive; shape () or, one per anchor, (n,).

    Source: "Supervised Contrastive Learning" (arXiv 2004.11362, equation 2, the sum outside the logarithm).

    >>> supervised_contrastive(torch.eye(3), torch.tensor([0, 0, 1]), temperature=1.0)
    tensor([0.6931, 0.6931, 0.0000])
    """
    units = F.normalize(embeddings, dim=-1)
    similarities = units @ units.T
    similarities = similarities / per_example(temperature, similarities)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = ((labels[:, None] == labels) & ~itself).to(similarities)
    # not minus infinity: a single row would have nothing to sum over and a gradient of NaN
    others = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min)
    count = positive.sum(dim=-1)
    log_probabilities: Tensor = similarities - torch.logsumexp(others, dim=-1, keepdim=True)
    return (positive * -log_probabilities).sum(dim=-1) / count.clamp_min(1)
