"""Mixup: convex combinations of pairs of examples and their targets."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive, Unit
from selftune.regularizer import Reference, Regularizer, Step, per_example, register
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

    Only a share ``probability`` of the batches is mixed; the others are left as they are.
    """

    name = "mixup"
    family = "supervision"
    kind = "augment"
    reference = Reference("mixup: Beyond Empirical Risk Minimization", "1710.09412")
    hyperparameters = (
        Hyperparameter("alpha", Positive(sweep=(0.05, 8.0)), 0.2, shared=True),
        Hyperparameter("probability", Unit(), 1.0, smooth=False, shared=True),
        Hyperparameter("per_sample", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"inputs", "targets"})
    stage = "mixing"

    def batch(self, step: Step) -> None:
        batch = len(step.inputs)
        lam = self._beta(step, batch if self.value(step, "per_sample") else 1)
        permutation = torch.randperm(batch, generator=step.generator, device=step.inputs.device)
        mixes = step.rand(1) < self.value(step, "probability")
        lam = torch.where(mixes, lam, torch.ones_like(lam))
        lam = lam if self.value(step, "per_sample") else lam[0]
        step.inputs, step.targets = mixup(step.inputs, step.targets, permutation, lam)

    def _beta(self, step: Step, draws: int) -> Float[Tensor, "draws"]:
        """Beta(alpha, alpha) as G1 / (G1 + G2) of gamma variables, in logarithms.

        For small alpha both would underflow. A gamma variable of shape alpha is one of shape alpha + 1 times
        U ** (1 / alpha).
        """
        alpha = self.value(step, "alpha").clamp_min(1e-6).expand(2, draws)
        larger = torch._standard_gamma(alpha + 1, generator=step.generator)
        first, second = torch.log(larger) + torch.log1p(-step.rand(2, draws)) / alpha
        return torch.sigmoid(first - second)
