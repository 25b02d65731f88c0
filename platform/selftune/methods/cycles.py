"""Online methods: every trainer trains a cycle, then one hyper-step moves what all share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypedDict

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.hyperparameters import Space
from selftune.methods.aggregation import Aggregation
from selftune.methods.best_step import stopped_early
from selftune.methods.budget import Budget
from selftune.methods.conduct import Conduct
from selftune.methods.measures import average, measured
from selftune.methods.method import Fault, HyperStep
from selftune.methods.reports import Diverged, Finished, Report, StateMissing, Trained
from selftune.methods.team import TeamMethod
from selftune.methods.update_rules import UpdateName, UpdateRule, UpdateSettings
from selftune.methods.values import Values
from selftune.methods.work_orders import FinishTraining, Train, WorkOrder
from selftune.shapes import Float, Tensor

_WARMUP_CHUNK = 50  # training steps per warm-up order, so that the display moves and a stop comes soon


@dataclass(frozen=True)
class CycleSettings:
    """What all online methods have in common.

    Args:
        warmup_steps: training steps before the hyperparameters move.
        train_steps, validation_steps: training steps and hyper-steps of one cycle.
        optimizer, learning_rate: what moves the unconstrained hyperparameters; see ``UpdateSettings``.
        checkpoint_every: hyper-steps between two checkpoints of every trainer.
        aggregation: how the trainers' hypergradients become one, and what becomes of trainers that send nonsense.
    """

    warmup_steps: int = 200
    train_steps: int = 5
    validation_steps: int = 1
    optimizer: UpdateName = "rmsprop"
    learning_rate: float = 0.01
    checkpoint_every: int = 50
    aggregation: Aggregation = field(default_factory=Aggregation)

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
    """What the orders of one cycle have in common, and where a member's training goes on; see ``Train``."""

    values: Values
    steps: int
    hypergradient: bool
    keep: Values | None
    checkpoint: bool
    unchecked: bool
    start: str | None
    end: str | None
    states: tuple[str, ...]
    warm_from: tuple[int, str] | None


class CycleMethod(TeamMethod):
    """Trains cycles in lock step and counts the budget; subclasses say what is ordered and how to move.

    Members are asked together and waited for together; one that is lost is not waited for. Neighbours that work in
    a group have one vote together.

    Args:
        budget: when to stop.
        settings: see ``CycleSettings``.
        team_size: number of trainers.

    Raises:
        SettingError: if the budget is in work, or spent before the warm-up ends.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "_reports", "_training_step", "_training_loss", "_to_keep", "_conduct", "_dismissed",
    )  # fmt: skip

    def __init__(self, budget: Budget, settings: CycleSettings, team_size: int) -> None:
        super().__init__(team_size)
        budget.check_training(settings.warmup_steps)
        self.budget = budget
        self._cycles = settings
        self._reports: dict[int, Trained | StateMissing] = {}
        self._training_step = 0
        self._training_loss = math.nan
        self._to_keep: Values | None = None  # with which what trainers have now, the best so far, was trained
        self._updates: UpdateRule | None = None
        self._groups = team_size // self.group_size  # at the beginning
        self._conduct = Conduct()  # of groups, by number
        self._dismissed: dict[int, str] = {}  # out of the team for good: member -> idle | busy | finished

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        mistake = self._cycles.aggregation.mistake(self._groups, self.group_size)
        if mistake is not None:
            yield SettingError(f"method.{mistake.key}", mistake.message)

    def join(self, member: int, space: Space) -> None:
        super().join(member, space)
        if member in self._dismissed:
            del self._members[member]
        if self._updates is None:
            self._make_updates()

    def leave(self, member: int) -> HyperStep | None:
        if member in self._dismissed:
            del self._dismissed[member]
            return None
        self._conduct.leave(self._group(member))
        return super().leave(member)

    @property
    def done(self) -> bool:
        return super().done and all(state == "finished" for state in self._dismissed.values())

    @property
    def first_network(self) -> tuple[int, str | None]:
        unheard = self._conduct.unheard
        return min(self._members, key=lambda member: (self._group(member) in unheard, member)), None

    def results(self, reports: Mapping[int, Report]) -> dict[int, Report]:
        finished, unheard = super().results(reports), self._conduct.unheard
        return {
            member: report
            for member, report in finished.items()
            if member not in self._dismissed and self._group(member) not in unheard
        }

    def _group(self, member: int) -> int:
        return member // self.group_size

    def _dismiss(self, member: int) -> None:
        """Ends a trainer beside the others: nobody waits for it, and its network is no result."""
        self._dismissed[member] = self._members.pop(member)
        self._reports.pop(member, None)

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

    def _votes(self, reports: dict[int, Trained]) -> dict[int, list[Float[Tensor, "rows _"]]]:
        """What the groups whose reports these are want to move by, in the parts that ``_move`` gets together."""
        found = {self._group(member): report.hypergradient for member, report in reports.items()}
        return {group: [one.hypergradient[None]] for group, one in found.items() if one is not None}

    @abstractmethod
    def _move(self, reports: dict[int, Trained], together: list[Tensor]) -> HyperStep | None:
        """Takes one hyper-step.

        Args:
            reports: of the members, without those that were outvoted.
            together: what the team makes of its ``_votes``.
        """

    # Ask ---------------------------------------------------------------------------------------------

    def ask(self) -> dict[int, WorkOrder]:
        orders = super().ask()
        for member, state in self._dismissed.items():
            if state == "idle":
                orders[member] = self._finish()
                self._dismissed[member] = "busy"
        return orders

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        if len(idle) < len(self._members):
            return {}
        groups = {self._group(member) for member in idle}
        if self.budget.spent(self._training_step, self._seconds):
            self.stopped = "budget"
        elif self.best.waited(self.budget.patience):
            self.stopped, self.message = "patience", stopped_early(self.best)
        elif (refusal := self._cycles.aggregation.refusal(len(groups), self.group_size)) is not None:
            self.stopped, self.message = "lost", f"stopped early: {refusal}"
        if self.stopped is not None:
            return self._finish_all(idle)
        self._conduct.send(groups, f"{self._training_step}.{self._hyper_step}")
        steps = self._steps_due()
        cycle = Cycle(
            values=self.values,
            steps=steps,
            hypergradient=not self._warming_up(),
            keep=self._to_keep,
            checkpoint=self._checkpoint(steps),
            unchecked=self._cycles.aggregation.robust,
            start=None,
            end=None,
            states=(),
            warm_from=None,
        )
        return {member: self._train(member, self._cycle_of(member, cycle)) for member in idle}

    def _cycle_of(self, member: int, cycle: Cycle) -> Cycle:
        """The cycle with what a member does beside: it keeps its state for another one, or goes on from one."""
        group, place = self._group(member), member % self.group_size
        own = cycle.copy()
        for excluded, one in self._conduct.exclusions.items():
            if one.source == group and one.stage != "waiting":
                own["states"] = tuple(dict.fromkeys((*own["states"], one.key)))
                if one.stage == "kept":
                    own["end"] = one.key
            if excluded == group and one.stage == "starting":
                own["start"], own["warm_from"] = one.key, (one.source * self.group_size + place, one.key)
                own["checkpoint"] = True  # so that a restarted worker need not start from there again
        return own

    def _finish(self) -> FinishTraining:
        remark = self.message if self.stopped in ("patience", "lost") else ""
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

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if member not in self._dismissed or isinstance(report, Diverged):
            return super().tell(member, report)
        self._dismissed[member] = "finished" if isinstance(report, Finished) else "idle"
        return None

    def _left(self, member: int) -> HyperStep | None:
        self._reports.pop(member, None)
        return self._complete()

    def _told(self, member: int, report: Report) -> HyperStep | None:
        assert isinstance(report, Trained | StateMissing)
        self._reports[member] = report
        return self._complete()

    def _complete(self) -> HyperStep | None:
        """Ends the cycle once nobody is at work on it."""
        if not self._reports or any(state == "busy" for state in self._members.values()):
            return None
        told = {member: self._reports[member] for member in sorted(self._reports)}
        self._reports = {}
        missing = {self._group(member) for member, one in told.items() if isinstance(one, StateMissing)}
        unheard = self._conduct.unheard | missing
        everyone = {member: one for member, one in told.items() if isinstance(one, Trained)}
        heard = {member: one for member, one in everyone.items() if self._group(member) not in unheard}
        self._to_keep = None
        first = next(iter((heard or everyone).values()), None)
        faults: dict[int, Fault] = {}
        together: list[Tensor] | None = None
        if first is not None and first.hypergradient is not None:
            together, faults = self._agree(heard, len(unheard))
        self._conduct.advance(missing)
        if first is None:
            return None
        accepted = {m: one for m, one in heard.items() if self._group(m) not in faults} or everyone
        if first.training_step > self._training_step:  # a hyper-step without training keeps the last one's loss
            self._training_loss = average(r.training_loss for r in self._counted(accepted))
        self._training_step = first.training_step
        self._seconds += max(r.seconds for r in everyone.values())
        return None if first.hypergradient is None else self._stepped(accepted, together, faults)

    def _agree(self, reports: dict[int, Trained], unheard: int) -> tuple[list[Tensor] | None, dict[int, Fault]]:
        """What the groups move by, None where too few of them can be believed; and who was outvoted."""
        aggregation, votes = self._cycles.aggregation, self._votes(reports)
        if not aggregation.robust:
            return aggregation.combined(votes), {}
        faults = self._conduct.judge(votes, aggregation)
        try:
            return aggregation.combined(votes, unheard), faults
        except ValueError:
            return None, faults

    def _stepped(
        self, accepted: dict[int, Trained], together: list[Tensor] | None, faults: dict[int, Fault]
    ) -> HyperStep | None:
        """Takes the hyper-step, remembers whether it is the best, and ends who is excluded for good."""
        trained_with, counted = self.values, self._counted(accepted)
        if together is None:
            step: HyperStep | None = self._row(counted, torch.zeros_like(self._u))
            self._hyper_step += 1
        else:
            step = self._move(accepted, together)
        named = {m: faults[self._group(m)] for m in sorted(self._members) if self._group(m) in faults}
        for member, fault in named.items():
            if fault.final:
                self._dismiss(member)
                self.team_size = max(1, self.team_size - 1)
        if not self._members:
            self.stopped, self.message = "lost", "every trainer was excluded"
        if step is not None:
            step = replace(step, diagnostics=measured(counted), faults=named)
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
