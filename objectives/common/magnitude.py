"""Augmentations of one magnitude: what every example gets is drawn evenly between minus and plus of it."""

from __future__ import annotations

from typing import ClassVar

from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

SELF_TUNING_NETWORKS = Reference(
    "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response Functions",
    "1903.03088",
)
DELTA_STN = Reference(
    "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians",
    "2010.13514",
)
"""The papers that tuned these augmentations while the network trained."""


class Magnitude(Regularizer):
    """Base of augmentations whose hyperparameter ``magnitude`` says how far they go at most, either way."""

    family: ClassVar[str] = "supervision"
    kind: ClassVar[str] = "augment"

    def drawn(self, step: Step) -> Float[Tensor, "batch"]:
        """A number per example, uniform in [-magnitude, magnitude]."""
        signed: Tensor = self.value(step, "magnitude") * (2 * step.rand(step.size) - 1)
        return signed
