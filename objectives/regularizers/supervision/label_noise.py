"""Symmetric label noise for noisy inner problems."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from selftune.hyperparameters import Choice, Hyperparameter, Integer, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def label_noise(
    labels: Int[Tensor, "batch"],
    uniform: Float[Tensor, "batch"],
    offset: Float[Tensor, "batch"],
    rate: float | Float[Tensor, "*rate"],
    num_classes: int,
) -> Int[Tensor, "batch"]:
    """Replaces labels whose draw is below ``rate`` by one of the other classes, chosen by ``offset``.

    Args:
        labels: in [0, num_classes).
        uniform, offset: draws from [0, 1).
        rate: probability of a wrong label, in [0, 1]. Noise that redraws over all classes, the true one
            included, at rate r corresponds to ``r * (num_classes - 1) / num_classes`` here.

    Raises:
        ValueError: with fewer than two classes, where there is no other class.

    Source: corruption protocol of "Early-Learning Regularization Prevents Memorization of Noisy Labels"
    (arXiv 2007.00151).

    >>> import torch
    >>> label_noise(torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.0, 0.0, 0.9]), 0.4, 3)
    tensor([0, 2, 1])
    """
    if num_classes < 2:
        raise ValueError(f"label noise needs at least two classes, got num_classes={num_classes}.")
    # a draw just below 1 may round up to num_classes - 1, which would be the true class again
    shift = 1 + (offset * (num_classes - 1)).long().clamp(max=num_classes - 2)
    wrong = (labels + shift.to(labels.dtype)) % num_classes
    return wrong.where(uniform < rate, labels)


@register
class LabelNoise(Regularizer):
    """Trains on wrong labels: every training example keeps one label, right or wrong, for the whole run.

    ``noise: symmetric`` replaces labels by any other class, ``asymmetric`` class c by class c + 1. The noise
    depends on ``seed`` alone; validation labels stay clean. It defines a problem, and so cannot be tuned.
    """

    name = "label_noise"
    family = "supervision"
    kind = "target"
    reference = Reference("Early-Learning Regularization Prevents Memorization of Noisy Labels", "2007.00151")
    hyperparameters = (
        Hyperparameter("rate", Unit(), 0.4, online=False, smooth=False, shared=True, swept=False),
        Hyperparameter(
            "noise", Choice(("symmetric", "asymmetric")), "symmetric", online=False, smooth=False, swept=False
        ),
        Hyperparameter("seed", Integer(0, 2**31 - 1), 0, online=False, smooth=False, shared=True, swept=False),
    )
    needs = frozenset({"labels", "targets", "index", "examples", "classes", "class_probabilities"})
    order = "problem"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._draws: Tensor | None = None

    def batch(self, step: Step) -> None:
        if self._draws is None:  # drawn once, from a seed of its own: the same after every restart
            generator = torch.Generator().manual_seed(int(self.bound["seed"].value))
            self._draws = torch.rand(2, step.examples, generator=generator).to(step.inputs.device)
        uniform, offset = self._draws[:, step.index]
        labels, rate = step.labels, self.bound["rate"].value
        if self.bound["noise"].value == "symmetric":
            step.labels = label_noise(labels, uniform, offset, rate, step.classes)
        else:
            step.labels = ((labels + 1) % step.classes).where(uniform < rate, labels)
        step.targets = F.one_hot(step.labels, step.classes).to(step.targets.dtype)
