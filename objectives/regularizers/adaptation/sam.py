"""Sharpness-aware minimisation: the step to the worst point nearby."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from selftune.hyperparameters import Choice, Hyperparameter, Positive, StartRule
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def sam(
    parameters: Sequence[Float[Tensor, "*shape"]],
    gradients: Sequence[Float[Tensor, "*shape"]],
    rho: float | Float[Tensor, ""] = 0.05,
    adaptive: bool = False,
    epsilon: float = 1e-12,
) -> tuple[Float[Tensor, "*shape"], ...]:
    """Perturbations of length ``rho``, over all parameters jointly, up the gradient.

    Training steps with the gradient at the perturbed parameters, on the same batch, from the unperturbed ones.
    The adaptive form measures length relative to the size of every parameter.

    Args:
        rho: not negative.
        epsilon: positive, added to the norm.

    Source: "Sharpness-Aware Minimization for Efficiently Improving Generalization" (arXiv 2010.01412, equation 2);
    adaptive: "ASAM" (arXiv 2102.11600).

    >>> sam([torch.ones(2)], [torch.tensor([3.0, 4.0])], rho=1.0)
    (tensor([0.6000, 0.8000]),)
    """
    scales = [p.abs() for p in parameters] if adaptive else [torch.ones_like(p) for p in parameters]
    scaled = [scale * gradient for scale, gradient in zip(scales, gradients, strict=True)]
    norm = torch.stack([torch.linalg.vector_norm(each) for each in scaled]).norm()
    step = rho / (norm + epsilon)
    return tuple(step * scale * each for scale, each in zip(scales, scaled, strict=True))


@register
class Sam(Regularizer):
    """Steps with the gradient at the worst point nearby, found on the same batch; a second pass in every step.

    ``adaptive`` measures distance relative to the size of every parameter and wants a ``rho`` ten times larger.
    """

    name = "sam"
    family = "adaptation"
    kind = "gradient"
    reference = Reference("Sharpness-Aware Minimization for Efficiently Improving Generalization", "2010.01412")
    hyperparameters = (
        Hyperparameter(
            "rho",
            Positive(sweep=(0.01, 0.5)),
            0.05,
            smooth=False,
            shared=True,
            start=StartRule(
                0.05, "Sharpness-Aware Minimization for Efficiently Improving Generalization (2010.01412)"
            ),
        ),
        Hyperparameter("adaptive", Choice((False, True)), False, online=False, smooth=False),
    )
    needs = frozenset({"parameters", "gradients", "recompute"})
    incompatible: ClassVar = {"fish": "it repeats the whole batch, and fish steps on one domain at a time"}
    whole_batch = "the gradient that it finds is that of the whole batch"
    one_process = None
    order = "correction"  # before what projects and clips the gradient that it finds

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        weights = [step.parameters[name] for name in gradients]
        saved = [weight.detach().clone() for weight in weights]
        moves = sam(saved, list(gradients.values()), self.value(step, "rho"), self.value(step, "adaptive"))
        _set(weights, [weight + move for weight, move in zip(saved, moves, strict=True)])
        found = step.asks.gradients(step.asks.recompute(step), weights)
        _set(weights, saved)
        _set(list(gradients.values()), found)


@torch.no_grad()
def _set(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
