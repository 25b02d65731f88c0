"""What is due in a cycle of a member, by what it was given before; nothing here depends on the others."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.methods.budget import Budget
from selftune.methods.cycle_settings import CycleSettings
from selftune.methods.member_progress import MemberProgress

_WARMUP_CHUNK = 50  # training steps per warm-up order, so that the display moves and a stop comes soon


@dataclass(frozen=True)
class CyclePlan:
    """Says what a member's next cycle is, within a budget.

    >>> plan = CyclePlan(Budget(steps=600), CycleSettings(warmup_steps=200, train_steps=5))
    >>> plan.steps(MemberProgress(training_step=180)), plan.steps(MemberProgress(training_step=200))
    (20, 5)
    """

    budget: Budget
    settings: CycleSettings

    def has_spent(self, progress: MemberProgress) -> bool:
        """Whether the member has used up the budget."""
        return self.budget.spent(progress.training_step, progress.seconds)

    def is_warmup(self, progress: MemberProgress) -> bool:
        """Whether no hypergradient is wanted yet."""
        return progress.training_step < self.settings.warmup_steps

    def steps(self, progress: MemberProgress) -> int:
        """Training steps of the cycle."""
        if self.is_warmup(progress):
            due = min(_WARMUP_CHUNK, self.settings.warmup_steps - progress.training_step)
        elif progress.hypergradients % self.settings.validation_steps == 0:
            due = self.settings.train_steps
        else:
            due = 0
        if self.budget.steps is not None:
            due = min(due, self.budget.steps - progress.training_step)
        return due

    def is_saved(self, progress: MemberProgress) -> bool:
        """Whether the member's state is saved after the cycle."""
        every, steps = self.settings.checkpoint_every, self.steps(progress)
        if self.is_warmup(progress):  # as often as later, counted in training steps
            return (progress.training_step + steps) % (every * self.settings.train_steps) < steps
        return (progress.hypergradients + 1) % every == 0
