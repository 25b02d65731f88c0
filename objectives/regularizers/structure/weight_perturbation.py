"""A factorised weight is held at a fixed distance from the original."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def weight_perturbation(
    left: Float[Tensor, "out r"],
    right: Float[Tensor, "r in"],
    weight: Float[Tensor, "out in"],
    *,
    radius: float | Float[Tensor, ""] = 1e-3,
) -> Float[Tensor, ""]:
    """Squared difference between ``radius`` and the largest magnitude of an entry of ``left right - weight``.

    No gradient to the weight; the gradient to the product sits on one entry that attains the maximum.

    Args:
        radius: not negative.

    Source: "PELA: Learning Parameter-Efficient Models with Low-Rank Approximation" (arXiv 2310.10700), weight
    perturbation regularization.

    >>> left, right = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0]])
    >>> weight_perturbation(left, right, torch.tensor([[1.0], [0.0]]), radius=0.5)
    tensor(2.2500)
    """
    deviations = (left @ right - weight.detach()).abs().flatten()
    # Along an axis, max sends the gradient to one entry; over a whole tensor it would spread it over ties.
    return (deviations.max(dim=0).values - radius).square()


@register
class WeightPerturbation(Regularizer):
    """Holds the factors of compressed layers at a fixed distance from the original weights.

    The distance is the largest deviation of an entry; its squared difference to ``radius`` is averaged over
    layers.
    """

    name = "weight_perturbation"
    family = "structure"
    kind = "penalty"
    reference = Reference("PELA: Learning Parameter-Efficient Models with Low-Rank Approximation", "2310.10700")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-2, 100.0)), 1.0, shared=True),
        Hyperparameter("radius", Positive(sweep=(1e-4, 1e-1)), 1e-3, shared=True),
    )
    needs = frozenset({"factors"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        radius = self.value(step, "radius")
        terms = [weight_perturbation(*factors, radius=radius) for factors in step.factors]
        return torch.stack(terms).mean()
