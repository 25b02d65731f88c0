"""NT-Xent, the loss of SimCLR: InfoNCE over both views at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def nt_xent(
    view_a: Float[Tensor, "batch dim"],
    view_b: Float[Tensor, "batch dim"],
    temperature: float | Float[Tensor, "*batch"] = 0.5,
) -> Float[Tensor, "2*batch"]:
    """Cross-entropy of finding the other view of an example among the 2 batch - 1 other embeddings.

    The result holds the anchors of ``view_a`` first, then those of ``view_b``. Never negative.

    Args:
        temperature: positive; shape () or, one per example, (batch,).

    Source: "A Simple Framework for Contrastive Learning of Visual Representations" (arXiv 2002.05709, equation 1).

    >>> nt_xent(torch.eye(2), torch.eye(2), temperature=1.0)
    tensor([0.5514, 0.5514, 0.5514, 0.5514])
    """
    embeddings = F.normalize(torch.cat([view_a, view_b]), dim=-1)
    if isinstance(temperature, Tensor) and temperature.ndim == 1:
        temperature = temperature.repeat(2)
    similarities = embeddings @ embeddings.T
    similarities = similarities / per_example(temperature, similarities)
    itself = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    batch = len(view_a)
    positives = torch.cat([similarities.diagonal(batch), similarities.diagonal(-batch)])
    return torch.logsumexp(similarities.masked_fill(itself, -torch.inf), dim=-1) - positives


@register
class NtXent(Regularizer):
    """The loss of SimCLR between two views: each embedding must be found among all others of the batch."""

    name = "nt_xent"
    family = "representation"
    kind = "penalty"
    reference = Reference("A Simple Framework for Contrastive Learning of Visual Representations", "2002.05709")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.01, 10.0)), 1.0),
        Hyperparameter("temperature", Positive(sweep=(0.05, 1.0)), 0.5),
    )
    needs = frozenset({"view_a", "view_b"})

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        both = nt_xent(step.view_a, step.view_b, self.value(step, "temperature"))
        return both.view(2, -1).mean(dim=0)
