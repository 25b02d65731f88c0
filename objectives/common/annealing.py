"""Penalties whose strength begins to count after a part of training, with an optimizer that starts anew there."""

from __future__ import annotations

from typing import ClassVar

import torch
from selftune.objectives.common.counts import Count

from selftune.hyperparameters import Hyperparameter
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def anneal_steps(steps: int) -> Hyperparameter:
    """Training steps before the strength counts.

    >>> anneal_steps(500).name
    'anneal'
    """
    return Hyperparameter(
        "anneal", Count(0, 1_000_000, sweep=(0, 5000)), steps, online=False, smooth=False, shared=True
    )


def annealed(
    value: Float[Tensor, ""], strength: Float[Tensor, "*batch"], before: float
) -> Float[Tensor, "*batch"]:
    """What, times ``strength``, is ``before * value``; without strength zero.

    >>> annealed(torch.tensor(3.0), torch.tensor(100.0), before=1.0)
    tensor(0.0300)
    """
    there = strength > 0
    return value * torch.where(there, before / torch.where(there, strength, 1), 0)


class Annealed(Regularizer):
    """Base of penalties that count with the weight ``before`` at first, and with their strength later.

    Subclasses list ``anneal_steps`` among their hyperparameters. The optimizer is reset at the switch: its moments
    fit gradients of another size. Where a study does not set ``anneal``, the switch comes no later than after the
    share ``longest`` of the run, which is what the authors' number of steps is of theirs; and a strength that is
    tuned counts from the start, because it is a schedule itself, and has no response before.
    """

    acts_from = "anneal"

    before: ClassVar[float]
    longest: ClassVar[float]

    def weighed(self, step: Step, value: Float[Tensor, ""]) -> Float[Tensor, "*batch"]:
        """The term of a training step, before it is multiplied by the strength."""
        switch, strength = self.switch(step.asks.steps), self.bound["strength"]
        if step.number == switch > 0 and strength.value:  # held at zero, nothing jumps
            step.asks.forget_moments(step)
        return value if step.number >= switch else annealed(value, self.value(step, "strength"), self.before)

    def switch(self, steps: int | None) -> int:
        """The first training step in which the strength counts, in a run of so many steps."""
        anneal = int(self.bound["anneal"].value)
        if "anneal" in self.settings:
            return anneal
        if self.bound["strength"].tuned:
            return 0
        return anneal if steps is None else min(anneal, int(self.longest * steps))
