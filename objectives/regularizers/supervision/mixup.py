"""Mixup: convex combinations of pairs of examples and their targets."""

from __future__ import annotations

from typing import ClassVar

import torch
from selftune.objectives.mathematics.draws import symmetric_beta

from selftune.hyperparameters import Choice, Hyperparameter, Positive, StartRule, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Order, Regularizer, register
from selftune.regularization.step import Mixing, Step, per_example
from selftune.shapes import Float, Int, Tensor


def mixup(
    inputs: Float[Tensor, "batch *shape"],
    targets: Float[Tensor, "batch classes"],
    permutation: Int[Tensor, "batch"],
    lam: Float[Tensor, "*lam"],
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch classes"]]:
    """Mixes every example with its partner ``permutation[i]``, inputs and targets alike.

    Args:
        lam: weight of the example itself, in [0, 1]; shape () or (batch,).

    Source: "mixup: Beyond Empirical Risk Minimization" (arXiv 1710.09412).

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> mixup(x, y, torch.tensor([1, 0]), torch.tensor(0.75))[0]
    tensor([[0.2500],
            [0.7500]])
    """
    mixed = []
    for tensor in (inputs, targets):
        weight = per_example(lam, tensor)
        mixed.append(weight * tensor + (1 - weight) * tensor[permutation])
    return mixed[0], mixed[1]


@register
class Mixup(Regularizer):
    """Mixup with ``lam ~ Beta(alpha, alpha)``, one per batch or (``per_sample``) one per example.

    The larger one of the two shares is that of the example itself, whose label and place in tables of training
    examples count; since partners are random, batches are distributed as without this. Only a share
    ``probability`` of the batches is mixed; the others are left as they are.
    """

    name = "mixup"
    family = "supervision"
    kind = "augment"
    reference = Reference("mixup: Beyond Empirical Risk Minimization", "1710.09412")
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = (
        Hyperparameter(
            "alpha",
            Positive(sweep=(0.05, 8.0)),
            0.2,
            shared=True,
            start=StartRule(
                0.2, "mixup: Beyond Empirical Risk Minimization (1710.09412), which advises 0.1 to 0.4"
            ),
        ),
        Hyperparameter("probability", Unit(), 1.0, smooth=False, shared=True),
        Hyperparameter("per_sample", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"inputs", "targets", "real_inputs"})
    axes: ClassVar = {"targets": ("batch", ...)}
    order: ClassVar[Order] = "mixing"

    def batch(self, step: Step) -> None:
        shape = (len(step.inputs),) if self.value(step, "per_sample") else ()
        lam = self._own_share(step, *shape)
        lam = torch.maximum(lam, 1 - lam)  # pairs are the same, and an example resembles what is known about it
        partners = step.permutation()
        step.mixings = (*step.mixings, Mixing(step.inputs, step.targets, partners, lam))
        step.inputs, step.targets = mixup(step.inputs, step.targets, partners, lam)

    def _own_share(self, step: Step, *shape: int) -> Float[Tensor, "*shape"]:
        """Shares of Beta(alpha, alpha), or one in batches that are not mixed."""
        lam = symmetric_beta(step, self.value(step, "alpha"), *shape)
        return lam.where(step.rand() < self.value(step, "probability"), torch.ones_like(lam))
