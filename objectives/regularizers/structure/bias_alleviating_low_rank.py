"""BA-LoRA's penalties on logits: consistency with the pretrained model, diversity, dominant singular values."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Hyperparameter, Integer, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

_REFERENCE = Reference(
    "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language Models",
    "2408.04556",
)


@penalty(
    family="structure",
    reference=_REFERENCE,
    strength=Positive(sweep=(1e-5, 1.0)),
    default=1e-4,
    needs={"logits": "logits", "reference_logits": "reference_logits"},
)
def normalized_logit_consistency(
    logits: Float[Tensor, "batch classes"], reference_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, "batch"]:
    """Mean squared difference between the directions of the logits and of the reference logits.

    In [0, 4 / classes]; zero where one is a positive multiple of the other. No gradient to the reference.

    Args:
        reference_logits: of the frozen pretrained model.

    Source: "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language
    Models" (arXiv 2408.04556), consistency regularization for understanding tasks.

    >>> normalized_logit_consistency(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([1.])
    """
    directions = [F.normalize(z, dim=1, eps=1e-12) for z in (logits, reference_logits.detach())]
    return (directions[0] - directions[1]).square().mean(dim=1)


@penalty(
    family="structure",
    reference=_REFERENCE,
    strength=Positive(sweep=(1e-5, 1.0)),
    default=1e-4,
    needs={"logits": "logits", "reference_logits": "reference_logits"},
)
def reference_consistency(
    logits: Float[Tensor, "batch classes"], reference_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, "batch"]:
    """Kullback-Leibler divergence from the reference distribution to the model's, KL(reference || model).

    No gradient to the reference. For sequences, give the tokens as rows and average them.

    Args:
        reference_logits: of the frozen pretrained model.

    Source: "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language
    Models" (arXiv 2408.04556), consistency regularization for generation tasks.

    >>> reference_consistency(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, -50.0]]))  # log 2
    tensor([0.6931])
    """
    log_model = torch.log_softmax(logits, dim=1)
    log_reference = torch.log_softmax(reference_logits.detach(), dim=1)
    return (log_reference.exp() * (log_reference - log_model)).sum(dim=1)


@penalty(
    family="structure",
    reference=_REFERENCE,
    strength=Positive(sweep=(1e-5, 1.0)),
    default=3e-4,
    needs={"logits": "logits"},
)
def logit_decorrelation(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Sum of the squared covariances of different logits over the batch, divided by the number of classes.

    Raises:
        ValueError: if the batch has fewer than two examples.

    Source: "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language
    Models" (arXiv 2408.04556), diversity regularization for understanding tasks.

    >>> logit_decorrelation(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))  # covariance 2
    tensor(4.)
    """
    batch, classes = logits.shape
    if batch < 2:
        raise ValueError(f"logit_decorrelation needs a batch of at least two examples, got {batch}.")
    centred = logits - logits.mean(dim=0)
    covariance = centred.T @ centred / (batch - 1)
    same = torch.eye(classes, dtype=torch.bool, device=logits.device)
    return covariance.masked_fill(same, 0).square().sum() / classes


@penalty(
    family="structure",
    reference=_REFERENCE,
    strength=Interval(-1.0, 1.0, sweep=(-0.01, 0.01)),
    default=3e-4,
    needs={"logits": "logits"},
    requires=["probs"],
)
def entropy_maximization(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch"]:
    """Negative entropy of the predictions, from -log(classes) for uniform ones to 0 for certain ones.

    Source: "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language
    Models" (arXiv 2408.04556), diversity regularization for generation tasks.

    >>> entropy_maximization(torch.zeros(1, 2))  # -log 2
    tensor([-0.6931])
    """
    probabilities = torch.softmax(logits, dim=1)
    return (probabilities * torch.log(probabilities + 1e-10)).sum(dim=1)


def top_singular_mass(
    logits: Float[Tensor, "batch classes"], *, top: int = 3, epsilon: float | Float[Tensor, ""] = 1e-10
) -> Float[Tensor, ""]:
    """Minus the share of the ``top`` largest singular values of the batch of logits in the sum of all; in [-1, 0].

    Args:
        top: at least 1; at most min(batch, classes) of them count.
        epsilon: positive, added to the sum of all singular values.

    Source: "BA-LoRA: Bias-Alleviating Low-Rank Adaptation to Mitigate Catastrophic Inheritance in Large Language
    Models" (arXiv 2408.04556), singular value decomposition regularization.

    >>> top_singular_mass(torch.diag(torch.tensor([3.0, 2.0, 1.0])), top=1)
    tensor(-0.5000)
    """
    singular_values = torch.linalg.svdvals(logits)
    share: Tensor = singular_values[:top].sum() / (singular_values.sum() + epsilon)
    return -share


@register
class TopSingularMass(Regularizer):
    """Concentrates the batch of logits on its ``top`` largest singular values."""

    name = "top_singular_mass"
    family = "structure"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 1.0)), 1e-4, shared=True),
        Hyperparameter("top", Integer(1, 10), 3, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"logits"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        return top_singular_mass(step.logits, top=self.bound["top"].value)
