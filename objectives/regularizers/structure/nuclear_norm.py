"""The nuclear norm, the convex surrogate of rank."""

from __future__ import annotations

import torch
from selftune.objectives.common.counts import Count

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Tensor


def nuclear_norm(
    matrix: Float[Tensor, "out *rest"], mask: Bool[Tensor, "out *rest"] | None = None
) -> Float[Tensor, ""]:
    """Sum of the singular values of a weight, seen as its first axis against all others.

    The gradient is ``U V'`` over the singular values above 1e-12 of the largest, also where singular values are
    zero or equal. For autograd the value is linear in the matrix: second derivatives are missing (zero).

    Args:
        mask: entries that count (True); all by default.

    Source: "Trained Rank Pruning for Efficient Deep Neural Networks" (arXiv 2004.14566, section 3.2); with a mask
    "SaRA: High-Efficient Diffusion Model Fine-tuning with Progressive Sparse Low-Rank Adaptation"
    (arXiv 2409.06633).

    >>> nuclear_norm(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
    tensor(7.)
    """
    counted = (matrix if mask is None else matrix * mask).flatten(1)
    with torch.no_grad():
        left, values, right = torch.linalg.svd(counted, full_matrices=False)
        subgradient = (left * (values > 1e-12 * values[0])) @ right
    value: Tensor = (counted * subgradient).sum()
    return value


@register
class NuclearNorm(Regularizer):
    """Sum of the nuclear norms of the layers' weights, in every ``every``-th training step.

    Convolutions are seen as matrices of their first axis against all others.
    """

    name = "nuclear_norm"
    family = "structure"
    kind = "penalty"
    reference = Reference("Trained Rank Pruning for Efficient Deep Neural Networks", "2004.14566")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 1e-2)), 3e-4, shared=True),
        Hyperparameter("every", Count(1, 1000, sweep=(1, 20)), 1, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"parameters"})
    per_layer = True

    def penalty(self, step: Step) -> Float[Tensor, "..."]:
        terms = torch.stack([self._sum(step, layers) for layers in self.layers.values()])
        return terms[0] if self.parts is None else terms

    def _sum(self, step: Step, layers: tuple[str, ...]) -> Float[Tensor, ""]:
        weights = self.weights(step, layers)
        if not weights or step.number % self.value(step, "every"):
            return step.logits.new_zeros(())
        return torch.stack([nuclear_norm(weight) for weight in weights]).sum()
