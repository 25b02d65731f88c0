"""Entropy of the choices in a supernet for architecture search."""

from __future__ import annotations

import math

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity("architecture", ("blocks", "operations"), "float", "logits of a supernet's choices"),
)


def architecture_entropy(alphas: Float[Tensor, "blocks operations"]) -> Float[Tensor, ""]:
    """Sum over blocks of the entropy (in nats) of the block's distribution over operations, softmax(alphas).

    From blocks * log(operations) for uniform choices down to 0 when every block has settled on one.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839).

    >>> architecture_entropy(torch.zeros(2, 4))  # 2 log 4
    tensor(2.7726)
    """
    log_shares = torch.log_softmax(alphas, dim=1)
    return -(log_shares.exp() * log_shares).sum()


@register
class ArchitectureEntropy(Regularizer):
    """Drives every block of a supernet to a single operation, more and more as training goes on.

    With ``schedule: true`` nothing happens in the first quarter of the run; then the factor rises to about one.
    The paper's schedule counts epochs; here a hundredth of the run counts as one.
    """

    name = "architecture_entropy"
    family = "structure"
    kind = "penalty"
    reference = Reference(
        "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against "
        "quantization noise",
        "2208.14839",
    )
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-4, 1e-1)), 1e-3, shared=True),
        Hyperparameter("schedule", Choice((True, False)), True, online=False, smooth=False),
    )
    needs = frozenset({"architecture", "progress"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        entropy = architecture_entropy(step.architecture)
        return entropy * _schedule(step.progress) if self.bound["schedule"].value else entropy


def _schedule(progress: float, epochs: int = 100) -> float:
    """The paper's factor at a share of a run of so many epochs."""
    epoch, start = progress * epochs, epochs // 4
    if epoch < start:
        return 0.0
    return epoch / (epochs - 1) * math.log(epoch - start + 2) / math.log(epochs - start + 1)
