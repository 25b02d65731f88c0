"""Online methods: every trainer trains a cycle, then one hyper-step moves what all share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypedDict

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.best_step import stopped_early
from selftune.methods.budget import Budget
from selftune.methods.conduct import Conduct, Exclusion
from selftune.methods.cycle_plan import CyclePlan
from selftune.methods.cycle_settings import CycleSettings
from selftune.methods.gate import Gate
from selftune.methods.measures import average, measured
from selftune.methods.member_progress import MemberProgress
from selftune.methods.method import Fault, HyperStep
from selftune.methods.pooling import Pools
from selftune.methods.reports import Diverged, Finished, Report, StateMissing, Trained
from selftune.methods.synchronization import Gathering, by_weight, staleness
from selftune.methods.team_method import TeamMethod
from selftune.methods.update_rules import UpdateRule, UpdateSettings
from selftune.methods.values import Values
from selftune.methods.work_orders import FinishTraining, Train, WorkOrder
from selftune.shapes import Float, Tensor

_ENOUGH = 0.9  # of the furthest network's training steps: one with fewer is not compared with the others
_BEHIND = "its network is no result, because it has less than nine tenths of the furthest one's training steps"


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


class CycleMethod(TeamMethod):
    """Trains cycles and counts the budget; subclasses say what is ordered and how to move.

    Members are asked together and waited for together, unless the settings' ``synchronization`` says otherwise;
    one that is lost is not waited for. Neighbours that work in a group have one vote together.

    Where members go on by themselves, each trains until it has spent the budget, and the team's training step is
    that of the furthest. The study ends when no hyper-step can come any more.

    Args:
        budget: when to stop.
        settings: see ``CycleSettings``.
        team_size: number of trainers.

    Raises:
        SettingError: if the budget is in work, or spent before the warm-up ends.
    """

    SAVED: ClassVar[tuple[str, ...]] = (
        "_gathering", "_progress", "_training_step", "_training_loss", "_keepers", "_conduct", "_dismissed",
    )  # fmt: skip

    def __init__(self, budget: Budget, settings: CycleSettings, team_size: int) -> None:
        super().__init__(team_size)
        budget.check_training(settings.warmup_steps)
        self.budget = budget
        self._cycles = settings
        self._plan = CyclePlan(budget, settings)
        self._gathering = Gathering()
        self._progress: dict[int, MemberProgress] = {}
        self._training_step = 0
        self._training_loss = math.nan
        self._keepers: list[int] = []  # who is still to be told that what it has now is the best so far
        self._step_length = 1.0  # of the hyper-step that is taken now: the mean weight of its reports
        self._updates: UpdateRule | None = None
        self._gate: Gate | None = None  # between the rule and the hyperparameters
        self._pools: Pools | None = None
        self._groups = team_size // self.group_size  # at the beginning
        self._conduct = Conduct()  # of groups, by number
        self._dismissed: dict[int, str] = {}  # out of the team for good: member -> idle | busy | finished

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        aggregation = self._cycles.aggregation
        if self._cycles.pooled is not None and not len(Pools(space, self._cycles.pooled)):
            yield SettingError(
                "method.pooled",
                "needs hyperparameters by unit or by class (parts: unit, parts: class); leave it out",
            )
        for mistake in (
            aggregation.mistake(self._groups, self.group_size),
            self._cycles.synchronization.mistake(self._groups, self.group_size, aggregation.robust),
        ):
            if mistake is not None:
                yield SettingError(f"method.{mistake.key}", mistake.message)

    def join(self, member: int, space: Space) -> None:
        super().join(member, space)
        if self._assembled and member not in self._progress:
            self._join_late(member)
        self._progress.setdefault(member, MemberProgress())
        if member in self._dismissed:
            del self._members[member]
        if self._updates is None:
            self._make_updates()

    @property
    def can_grow(self) -> bool:
        return self.group_size == 1 and self._cycles.synchronization.is_barrier and self.stopped is None

    def _join_late(self, member: int) -> None:
        """It goes on from a team-mate's state, like one that was excluded; until then its reports do not count."""
        self._progress[member] = replace(next(iter(self._progress.values()), MemberProgress()))
        self._conduct.exclusions[member] = Exclusion()

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
        unheard, behind = self._conduct.unheard, self._behind
        return min(self._members, key=lambda m: (self._group(m) in unheard or m in behind, m)), None

    def results(self, reports: Mapping[int, Report]) -> dict[int, Report]:
        finished, unheard, behind = super().results(reports), self._conduct.unheard, self._behind
        return {
            member: report
            for member, report in finished.items()
            if member not in self._dismissed and self._group(member) not in unheard and member not in behind
        }

    @property
    def _behind(self) -> set[int]:
        """Members that a quorum has left behind, so that their networks are no result."""
        if self._cycles.synchronization.name != "quorum":
            return set()
        steps = {member: one.training_step for member, one in self._progress.items()}
        return {member for member, step in steps.items() if step < _ENOUGH * max(steps.values())}

    def _group(self, member: int) -> int:
        return member // self.group_size

    def _dismiss(self, member: int) -> None:
        """Ends a trainer beside the others: nobody waits for it, and its network is no result."""
        self._dismissed[member] = self._members.pop(member)
        self._gathering.leave(member)

    def _moving(self) -> dict[str, tuple[Tensor, float | None]]:
        """The vectors that the update rule moves, with learning rates of their own where they have one."""
        return {"hyperparameters": (self._u if self._gate is None else self._gate.proposal, None)}

    def _make_updates(self) -> UpdateRule:
        if self._cycles.significance is not None:
            self._gate = Gate(self._u, self._cycles.significance)
        rule = UpdateSettings(rule=self._cycles.optimizer, learning_rate=self._cycles.learning_rate)
        vectors, rates = zip(*self._moving().values(), strict=True)
        if self._cycles.pooled is not None:
            assert self.space is not None
            self._pools = Pools(self.space, self._cycles.pooled)
            vectors, rates = (*vectors, self._pools.moves), (*rates, None)
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
        free = self._free(idle)
        if not free:
            return {}
        groups = {self._group(member) for member in free}
        if self._is_spent():
            self.stopped = "budget"
        elif self.best.waited(self.budget.patience):
            self.stopped, self.message = "patience", stopped_early(self.best)
        elif (refusal := self._cycles.aggregation.refusal(len(groups), self.group_size)) is not None:
            self.stopped, self.message = "lost", f"stopped early: {refusal}"
        if self.stopped is not None:
            return self._finish_all(idle)
        self._conduct.send(groups, f"{self._training_step}.{self._hyper_step}")
        orders: dict[int, WorkOrder] = {}
        for member in free:
            if not self._plan.has_spent(self._progress[member]):
                order = orders[member] = self._train(member, self._cycle_of(member))
                self._progress[member].give(order)
        return orders

    def _free(self, idle: list[int]) -> list[int]:
        """Idle members that wait for nobody."""
        if self._cycles.synchronization.is_barrier:
            return idle if len(idle) == len(self._members) else []
        return [member for member in idle if member not in self._gathering.waiting]

    def _is_spent(self) -> bool:
        """Whether too few members have anything left to report for another hyper-step."""
        waiting, progress = self._gathering.waiting, self._progress
        left = sum(
            state == "busy" or member in waiting or not self._plan.has_spent(progress[member])
            for member, state in self._members.items()
            if state != "finished"
        )
        return left < self._cycles.synchronization.needed(len(self._members))

    def _cycle_of(self, member: int) -> Cycle:
        """A member's next cycle, and what it does beside: it keeps its state for others, or takes one over."""
        progress, group, place = self._progress[member], self._group(member), member % self.group_size
        own = Cycle(
            values=self.values,
            steps=self._plan.steps(progress),
            hypergradient=not self._plan.is_warmup(progress),
            keep=self._kept_by(member),
            checkpoint=self._plan.is_saved(progress),
            unchecked=self._cycles.aggregation.robust,
            start=None,
            end=None,
            states=(),
        )
        for excluded, one in self._conduct.exclusions.items():
            key = f"{one.key}.{place}"  # every member of a group starts from one of its own
            if one.source == group and one.stage != "waiting":
                own["states"] = tuple(dict.fromkeys((*own["states"], key)))
                if one.stage == "kept":
                    own["end"] = key
            if excluded == group and one.stage == "starting":
                own["start"] = key
                own["checkpoint"] = True  # so that a restarted worker need not start from there again
        return own

    def _kept_by(self, member: int) -> Values | None:
        """With which values the member's network was trained, if it is to keep that as the best; says so once."""
        if member not in self._keepers:
            return None
        self._keepers.remove(member)
        return self._progress[member].values

    def _finish_all(self, members: list[int]) -> dict[int, WorkOrder]:
        finish, behind = self._finish(), self._behind
        return {
            member: replace(
                finish, keep=self._kept_by(member), remark=_BEHIND if member in behind else finish.remark
            )
            for member in members
        }

    def _finish(self) -> FinishTraining:
        remark = self.message if self.stopped in ("patience", "lost") else ""
        if self._gate is not None and self.space is not None:
            remark = "; ".join(filter(None, (remark, self._gate.sentence(self.space.names))))
        return FinishTraining(
            values=self.values,
            metric=self.best.metric,
            mode=self.best.mode,
            remark=remark,
            checkpoint=True,
        )

    # Tell --------------------------------------------------------------------------------------------

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if member not in self._dismissed or isinstance(report, Diverged):
            return super().tell(member, report)
        self._dismissed[member] = "finished" if isinstance(report, Finished) else "idle"
        return None

    def _left(self, member: int) -> HyperStep | None:
        self._gathering.leave(member)
        self._progress.pop(member, None)
        self._keepers = [keeper for keeper in self._keepers if keeper != member]
        return self._complete()

    def _told(self, member: int, report: Report) -> HyperStep | None:
        assert isinstance(report, Trained | StateMissing)
        if isinstance(report, Trained):
            self._progress[member].hear(report)
        if self.stopped is not None:  # it was at work when the others had come to their end
            return None
        taken = self._gathering.take(member, report, self._hyper_step, self._cycles.synchronization)
        return self._complete() if taken else None

    @property
    def _at_work(self) -> int:
        return sum(state == "busy" for state in self._members.values())

    def _complete(self) -> HyperStep | None:
        """Ends the cycle of those who have reported, if a hyper-step is due."""
        rule = self._cycles.synchronization
        if self.stopped is not None or not self._gathering.is_due(self._at_work, len(self._members), rule):
            return None
        told = self._gathering.release()
        missing = {self._group(member) for member, one in told.items() if isinstance(one, StateMissing)}
        unheard = self._conduct.unheard | missing
        everyone = {member: one for member, one in told.items() if isinstance(one, Trained)}
        heard = {member: one for member, one in everyone.items() if self._group(member) not in unheard}
        first = next(iter((heard or everyone).values()), None)
        faults: dict[int, Fault] = {}
        together: list[Tensor] | None = None
        if first is not None and first.hypergradient is not None:
            together, faults = self._agree(heard, len(unheard))
        self._conduct.advance(missing)
        if first is None:
            return None
        accepted = {m: one for m, one in heard.items() if self._group(m) not in faults} or everyone
        furthest = max(one.training_step for one in (heard or everyone).values())
        if furthest > self._training_step:  # a hyper-step without training keeps the last one's loss
            self._training_loss = average(r.training_loss for r in self._shown(accepted))
        self._training_step = max(self._training_step, furthest)
        over = max(self._progress[member].seconds for member in everyone)
        for member in told:
            self._progress[member].seconds = over  # they have waited for each other
        self._seconds = max(self._seconds, over)
        return None if first.hypergradient is None else self._stepped(accepted, together, faults)

    def _agree(self, reports: dict[int, Trained], unheard: int) -> tuple[list[Tensor] | None, dict[int, Fault]]:
        """What the groups move by, None where too few of them can be believed; and who was outvoted."""
        aggregation, votes = self._cycles.aggregation, self._votes(reports)
        if not aggregation.robust:
            weights = self._weights(reports)
            self._step_length = sum(weights.values()) / len(weights)
            return aggregation.combined(by_weight(votes, weights)), {}
        faults = self._conduct.judge(votes, aggregation)
        try:
            return aggregation.combined(votes, unheard), faults
        except ValueError:
            return None, faults

    def _weights(self, reports: dict[int, Trained]) -> dict[int, float]:
        """What the groups' reports count."""
        rule = self._cycles.synchronization
        late = {
            self._group(m): 0 if rule.is_barrier else staleness(r, self._hyper_step) for m, r in reports.items()
        }
        return {group: rule.weight(by) for group, by in late.items()}

    def _stepped(
        self, accepted: dict[int, Trained], together: list[Tensor] | None, faults: dict[int, Fault]
    ) -> HyperStep | None:
        """Takes the hyper-step, remembers whether it is the best, and ends who is excluded for good."""
        shown, more = self._shown(accepted), self._lateness(accepted)
        if together is None:
            step: HyperStep | None = self._row(shown, torch.zeros_like(self._u))
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
            loss = average(r.measures["validation_loss"] for r in shown)
            found = measured(self._counted(accepted)) | measured(shown) | more | self._evidence()
            step = replace(step, validation_loss=loss, diagnostics=found, faults=named)
            if self.best.see(step):
                self._keepers = list(self._members)
        return step

    def _evidence(self) -> dict[str, float]:
        """How many hyperparameters are held, and the evidence against each that its hypergradients are noise."""
        if self._gate is None or self.space is None:
            return {}
        return self._gate.shown(self.space.names)

    def _shown(self, accepted: dict[int, Trained]) -> list[Trained]:
        """The reports over which losses and diagnostics are averaged.

        Where a hyper-step waits for some trainers only, these are the last ones of all: the average of a few would
        go up and down with who is among them.
        """
        if not self._cycles.synchronization.is_barrier:
            accepted = {m: one.last for m, one in sorted(self._progress.items()) if one.last is not None}
        return self._counted(accepted)

    def _lateness(self, reports: dict[int, Trained]) -> dict[str, float]:
        """How many reports a hyper-step was made of, and how stale they were on average, where that differs."""
        if self._cycles.synchronization.is_barrier:
            return {}
        late = [staleness(report, self._hyper_step) for report in reports.values()]
        return {"reports": float(len(late)), "staleness": average(late)}

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
        """Moves what moves, and counts the hyper-step; the hyperparameters' gradient is the first one."""
        assert self._updates is not None
        if self._gate is not None and gradients[0] is not None:
            self._gate.see(gradients[0])
        if self._pools is None:
            self._updates.step(gradients, self._step_length)
        else:
            assert gradients[0] is not None
            vector = self._updates.vectors[0]
            before = vector.clone()
            self._updates.step([*gradients, self._pools.gradient(gradients[0])], self._step_length)
            self._pools.share_out(vector, before)
        if self._gate is not None:
            self._gate.follow()
        self._hyper_step += 1

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "updates": self._updates.state_dict() if self._updates else None,
            "gate": self._gate.state_dict() if self._gate else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.space is not None:  # the rule moves the vectors that were just loaded
            self._make_updates().load_state_dict(state["updates"])
            if self._gate is not None:
                self._gate.load_state_dict(state["gate"])
