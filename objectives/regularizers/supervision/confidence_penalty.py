"""Confidence penalty: low-entropy predictions cost."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def confidence_penalty(
    logits: Float[Tensor, "batch classes"], margin: float | Float[Tensor, "*margin"] | None = None
) -> Float[Tensor, "batch"]:
    """Negative entropy of the predictions, or with a margin ``max(0, margin - entropy)``.

    Args:
        margin: entropy from which on nothing is penalised, positive; None penalises all confidence.

    Source: "Regularizing Neural Networks by Penalizing Confident Output Distributions" (arXiv 1701.06548).

    >>> import torch
    >>> confidence_penalty(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    tensor([-0.6931, -0.3653])
    >>> confidence_penalty(torch.zeros(1, 2), margin=1.0)
    tensor([0.3069])
    """
    log_probs = logits.log_softmax(dim=-1)
    negative_entropy = (log_probs.exp() * log_probs).sum(dim=-1)
    return negative_entropy if margin is None else (margin + negative_entropy).relu()


@register
class ConfidencePenalty(Regularizer):
    """Rewards the entropy of predictions; with a ``margin`` only up to that entropy.

    Without a margin in the study all confidence costs.
    """

    name = "confidence_penalty"
    family = "supervision"
    kind = "penalty"
    reference = Reference(
        "Regularizing Neural Networks by Penalizing Confident Output Distributions", "1701.06548"
    )
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.01, 8.0)), 0.1),
        Hyperparameter("margin", Positive(sweep=(0.1, 5.0)), 1.0),
    )
    needs = frozenset({"logits", "probs"})

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        margin = self.value(step, "margin") if "margin" in self.settings else None
        return confidence_penalty(step.logits, margin)
