"""Online methods: every trainer trains a cycle, then one hyper-step moves what all share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypedDict

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.hyperparameters import Space
from selftune.methods.best_step import stopped_early
from selftune.methods.budget import Budget
from selftune.methods.measures import average, measured
from selftune.methods.method import HyperStep
from selftune.methods.reports import Report, Trained
from selftune.methods.team import TeamMethod
from selftune.methods.update_rules import UpdateName, UpdateRule, UpdateSettings
from selftune.methods.values import Values
from selftune.methods.work_orders import FinishTraining, Train, WorkOrder
from selftune.shapes import Tensor

_WARMUP_CHUNK = 50  # training steps per warm-up order, so that the display moves and a stop comes soon


@dataclass(frozen=True)
class CycleSettings:
    """What all online methods have in common.

    Args:
        warmup_steps: training steps before the hyperparameters move.
        train_steps, validation_steps: training steps and hyper-steps of one cycle.
        optimizer, learning_rate: what moves the unconstrained hyperparameters; see ``UpdateSettings``.
        checkpoint_every: hyper-steps between two checkpoints of every trainer.
    """

    warmup_steps: int = 200
    train_steps: int = 5
    validation_steps: int = 1
    optimizer: UpdateName = "rmsprop"
    learning_rate: float = 0.01
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        check_fields(self)
        for key, low in (
            ("warmup_steps", 0),
            ("train_steps", 1),
            ("validation_steps", 1),
            ("checkpoint_every", 1),
        ):
            if getattr(self, key) < low:
                raise SettingError(key, f"must be at least {low}, got {getattr(self, key)}")
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be a number of at least 0, got {self.learning_rate}")


class Cycle(TypedDict):
    """What the orders of one cycle have in common; see ``Train``."""

    values: Values
    steps: int
    hypergradient: bool
    keep: Values | None
    checkpoint: bool


class CycleMethod(TeamMethod):
    """Trains cycles in lock step and counts the budget; subclasses say what is ordered and how to move.

    Members are asked together and waited for together; one that is lost is not waited for.

    Args:
        budget: when to stop.
        settings: see ``CycleSettings``.
        team_size: number of trainers.

    Raises:
        SettingError: if the budget is in work, or spent before the warm-up ends.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("_reports", "_training_step", "_training_loss", "_to_keep")

    def __init__(self, budget: Budget, settings: CycleSettings, team_size: int) -> None:
        super().__init__(team_size)
        budget.check_training(settings.warmup_steps)
        self.budget = budget
        self._cycles = settings
        self._reports: dict[int, Trained] = {}
        self._training_step = 0
        self._training_loss = math.nan
        self._to_keep: Values | None = None  # with which what trainers have now, the best so far, was trained
        self._updates: UpdateRule | None = None

    def join(self, member: int, space: Space) -> None:
        super().join(member, space)
        if self._updates is None:
            self._make_updates()

    def _moving(self) -> dict[str, tuple[Tensor, float | None]]:
        """The vectors that the update rule moves, with learning rates of their own where they have one."""
        return {"hyperparameters": (self._u, None)}

    def _make_updates(self) -> UpdateRule:
        rule = UpdateSettings(rule=self._cycles.optimizer, learning_rate=self._cycles.learning_rate)
        vectors, rates = zip(*self._moving().values(), strict=True)
        self._updates = UpdateRule(rule, vectors, rates)
        return self._updates

    @abstractmethod
    def _train(self, member: int, cycle: Cycle) -> Train:
        """A member's order of the current cycle: ``Train(**cycle)`` with the estimator and its settings."""

    @abstractmethod
    def _move(self, reports: dict[int, Trained]) -> HyperStep | None:
        """Takes one hyper-step from the reports of the members."""

    # Ask ---------------------------------------------------------------------------------------------

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        if len(idle) < len(self._members):
            return {}
        if self.budget.spent(self._training_step, self._seconds):
            self.stopped = "budget"
        elif self.best.waited(self.budget.patience):
            self.stopped, self.message = "patience", stopped_early(self.best)
        if self.stopped is not None:
            return self._finish_all(idle)
        steps = self._steps_due()
        cycle = Cycle(
            values=self.values,
            steps=steps,
            hypergradient=not self._warming_up(),
            keep=self._to_keep,
            checkpoint=self._checkpoint(steps),
        )
        return {member: self._train(member, cycle) for member in idle}

    def _finish(self) -> FinishTraining:
        remark = self.message if self.stopped == "patience" else ""
        return FinishTraining(
            values=self.values,
            keep=self._to_keep,
            metric=self.best.metric,
            mode=self.best.mode,
            remark=remark,
            checkpoint=True,
        )

    def _checkpoint(self, steps: int) -> bool:
        every = self._cycles.checkpoint_every
        if self._warming_up():  # as often as later, counted in training steps
            return (self._training_step + steps) % (every * self._cycles.train_steps) < steps
        return (self._hyper_step + 1) % every == 0

    def _warming_up(self) -> bool:
        return self._training_step < self._cycles.warmup_steps

    def _steps_due(self) -> int:
        if self._warming_up():
            due = min(_WARMUP_CHUNK, self._cycles.warmup_steps - self._training_step)
        elif self._hyper_step % self._cycles.validation_steps == 0:
            due = self._cycles.train_steps
        else:
            due = 0
        if self.budget.steps is not None:
            due = min(due, self.budget.steps - self._training_step)
        return due

    # Tell --------------------------------------------------------------------------------------------

    def _left(self, member: int) -> HyperStep | None:
        self._reports.pop(member, None)
        return self._complete()

    def _told(self, member: int, report: Report) -> HyperStep | None:
        assert isinstance(report, Trained)
        self._reports[member] = report
        return self._complete()

    def _complete(self) -> HyperStep | None:
        """Ends the cycle once nobody is at work on it."""
        if not self._reports or any(state == "busy" for state in self._members.values()):
            return None
        reports = {member: self._reports[member] for member in sorted(self._reports)}
        self._reports = {}
        first, counted = next(iter(reports.values())), self._counted(reports)
        training_step = first.training_step
        if training_step > self._training_step:  # a hyper-step without training keeps the last training's loss
            self._training_loss = average(r.training_loss for r in counted)
        self._training_step = training_step
        self._seconds += max(r.seconds for r in reports.values())
        self._to_keep = None
        if first.hypergradient is None:
            return None
        trained_with = self.values
        step = self._move(reports)
        if step is not None:
            step = replace(step, diagnostics=measured(counted))
            if self.best.see(step):
                self._to_keep = trained_with
        return step

    def _counted(self, reports: dict[int, Trained]) -> list[Trained]:
        """The reports of those networks that come out, over which losses and diagnostics are averaged."""
        return list(reports.values())

    def _row(self, counted: list[Trained], hypergradient: Tensor, **more: Any) -> HyperStep:
        """The hyper-step that starts here; ``scale`` is zero where nothing is perturbed."""
        return HyperStep(
            number=self._hyper_step,
            training_step=self._training_step,
            seconds=self._seconds,
            training_loss=self._training_loss,
            validation_loss=average(r.measures["validation_loss"] for r in counted),
            hyperparameters=self.hyperparameters,
            hypergradient=hypergradient,
            **{"scale": torch.zeros_like(self._u), **more},
        )

    def _update(self, gradients: Sequence[Tensor | None]) -> None:
        """Moves what moves, and counts the hyper-step."""
        assert self._updates is not None
        self._updates.step(gradients)
        self._hyper_step += 1

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"updates": self._updates.state_dict() if self._updates else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.space is not None:  # the rule moves the vectors that were just loaded
            self._make_updates().load_state_dict(state["updates"])
