"""MAID for networks: a line search over hyperparameter steps in which every arm is trained from one state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import ClassVar, TypedDict

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.best_step import stopped_early
from selftune.methods.budget import Budget
from selftune.methods.measures import measured
from selftune.methods.method import HyperStep
from selftune.methods.network_line_search_settings import NetworkLineSearchSettings
from selftune.methods.network_search import Search
from selftune.methods.reports import ArmTrained, CandidateDiverged, Finished, Report, StateMissing
from selftune.methods.team_method import TeamMethod
from selftune.methods.tunable import not_differentiable
from selftune.methods.work_orders import FinishTraining, TrainArm, TrainCandidate, TrainStayArm, WorkOrder

_WARMUP_CHUNK = 50  # training steps per warm-up order, so that the display moves and a stop comes soon
_CERTIFIED = 0.0  # whatever trainers say: curvature is estimated, and a test errs with probability alpha


class _Common(TypedDict):
    """What the arms of a search have in common; see ``TrainArm``."""

    start: str
    fresh: bool
    gamma: float
    sample: int
    samples: int | None


def _again(arm: TrainArm) -> TrainCandidate:
    """The order that makes the state of an arm once more."""
    names = [one.name for one in fields(TrainArm) if one.name not in ("number", "checkpoint", "source")]
    return TrainCandidate(**{name: getattr(arm, name) for name in names})


class NetworkLineSearch(TeamMethod):
    """MAID (arXiv 2308.10098) where the lower level is a network that trains on: a stay arm and a paired test.

    In an outer step one trainer trains ``train_steps`` with the hyperparameters as they are (the stay arm) and
    differentiates at the end. Then smaller and smaller steps against the hypergradient are tried, each by training
    from the *same* state on the *same* batches. The first is accepted for which a paired t-test on validation
    losses says that the mean difference D to the stay arm is at most ``-decrease * expected``, so that plain
    progress of training is credited to no step. If none is, the stay arm goes on. The levels of all tests of a run
    sum to at most ``alpha``. What is tested is the response to ``train_steps`` on the batches that were drawn:
    nothing is said of training to the end, and nothing is ever ``certified``.

    Trainers of a team train candidates at the same time and accept the step that a single one accepts. A state
    that no trainer keeps any more is made again from the state before; if both are gone, the path goes on from the
    furthest state that there is, with the hyperparameters reached.
    ``stopped`` says why the method is done: ``budget``, or ``lost`` if no state exists any more.

    Args:
        budget: in training steps of the path that is kept, or seconds.
        settings: see ``NetworkLineSearchSettings``.
        team_size: number of trainers.

    Raises:
        SettingError: if the budget is in work, a tuned hyperparameter is not smooth, or fewer than 30 validation
            examples judge.

    A hyper-step's values are those of the arm that was kept, so that a trajectory is a schedule of the path. Where
    there is a warm-up, the first hyper-step closes it; nothing was tried for that one.

    >>> method = NetworkLineSearch(Budget(steps=1000), team_size=2)
    >>> method.done
    False
    """

    stateful = False
    SAVED: ClassVar[tuple[str, ...]] = (
        "_issued", "_states", "_state", "_fresh", "_attempt", "_training_step", "_work", "_tests", "_sample",
        "_step", "_gamma", "_search", "_busy", "_arms", "_recipe", "_best_state", "_maker",
    )  # fmt: skip

    def __init__(
        self, budget: Budget, settings: NetworkLineSearchSettings | None = None, team_size: int = 1
    ) -> None:
        super().__init__(team_size)
        self.settings = settings or NetworkLineSearchSettings()
        budget.check_training(self.settings.warmup_steps)
        self.budget = budget
        self._issued: dict[int, WorkOrder] = {}
        self._states: dict[str, int] = {}  # key of every state that is wanted -> training step at which it stands
        self._state = "start"  # key of the state that the outer step starts from
        self._fresh = True  # nobody has trained yet: any member's start will do
        self._attempt = 0
        self._training_step = 0
        self._work = 0
        self._tests = 0
        self._sample = 0
        self._step = self.settings.step
        self._gamma = 0.0
        self._search: Search | None = None
        self._busy: dict[int, float] = {}  # seconds of every member since the stay arm
        self._arms: dict[str, tuple[int, TrainArm]] = {}  # who had which, by its end
        self._best_state: str | None = None  # key of the state of the best hyper-step
        self._recipe: TrainArm | None = None  # the order that made the state, should it be lost
        self._maker = -1  # whoever made the state goes on from it first: it need not travel there

    @property
    def first_network(self) -> tuple[int, str | None]:
        return min(self._members), self._state if self._state in self._states else None

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        yield from not_differentiable(space, "inexact_line_search")

    def _left(self, member: int) -> HyperStep | None:
        self._issued.pop(member, None)  # its candidate, if it had one, is given to somebody else
        return None

    # Ask ---------------------------------------------------------------------------------------------

    def ask(self) -> dict[int, WorkOrder]:
        orders = super().ask()
        self._issued |= orders
        return orders

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        if not self._fresh and self._state not in self._states:
            if self._issued:
                return {}
            recipe = self._recipe
            if recipe is not None and (recipe.fresh or recipe.start in self._states):
                return self._issue(idle, _again(recipe))
            self._fall_back()
        if self._search is not None:
            return self._trials(idle)
        if any(isinstance(order, TrainStayArm) for order in self._issued.values()):
            return {}
        if self.stopped is None and not self._enough():
            return self._stay(idle)
        if any(not isinstance(order, FinishTraining) for order in self._issued.values()):
            return {}
        self.stopped = self.stopped or "budget"
        return self._finish_all(idle)

    def _fall_back(self) -> None:
        """The state to start from is lost for good: the furthest one takes its place."""
        furthest = max(reversed(self._states), key=self._states.__getitem__, default=None)
        self._search = self._recipe = None
        self._attempt += 1
        if furthest is not None:
            self._state, self._training_step = furthest, self._states[furthest]
        elif self._hyper_step == 0:  # of the warm-up: it begins again
            self._state, self._training_step, self._fresh = "start", 0, True
        else:
            self.stopped = "lost"
            self.message = "no trainer keeps the network of the path any more"

    def results(self, reports: Mapping[int, Report]) -> dict[int, Report]:
        return {} if self.stopped == "lost" else super().results(reports)

    def _enough(self) -> bool:
        if self.best.waited(self.budget.patience):
            self.message = stopped_early(self.best)
            return True
        return self.budget.spent(self._training_step, self._seconds)

    def _warming_up(self) -> bool:
        return self._training_step < self.settings.warmup_steps

    def _stay(self, idle: list[int]) -> dict[int, WorkOrder]:
        settings = self.settings
        steps = settings.train_steps
        if self._warming_up():
            steps = min(_WARMUP_CHUNK, settings.warmup_steps - self._training_step)
        if self.budget.steps is not None:
            steps = min(steps, self.budget.steps - self._training_step)
        stay = TrainStayArm(
            **self._common(),
            values=self.values,
            end=f"{self._attempt}.stay",
            steps=steps,
            hyper_step=self._hyper_step if self._training_step + steps >= settings.warmup_steps else None,
            hypergradient=not self._warming_up(),
            curvature=settings.smallest_curvature,
            lanczos_steps=settings.lanczos_steps,
            system_steps=settings.system_steps,
        )
        return self._issue(idle, stay)

    def _trials(self, idle: list[int]) -> dict[int, WorkOrder]:
        """The next candidates that nobody trains or has trained, the first of them where the state is."""
        search = self._search
        assert search is not None
        issued = [order for order in self._issued.values() if isinstance(order, TrainCandidate)]
        taken = {order.candidate for order in issued if order.attempt == self._attempt}
        waiting = [c for c in range(len(search.candidates)) if c not in taken and c not in search.reports]
        orders: dict[int, WorkOrder] = {}
        for candidate in waiting:
            arm = TrainCandidate(
                **self._common(),
                values=self._values_at(search.candidates[candidate].u),
                end=f"{self._attempt}.{candidate}",
                steps=search.stay.work,
                hyper_step=self._hyper_step,
                candidate=candidate,
                attempt=self._attempt,
            )
            orders |= self._issue([m for m in idle if m not in orders], arm)
        return orders

    def _common(self) -> _Common:
        return {
            "start": self._state,
            "fresh": self._fresh,
            "gamma": self._gamma if self.settings.proximal else 0.0,
            "sample": self._sample,
            "samples": self.settings.validation_samples,
        }

    def _issue(self, idle: list[int], arm: TrainArm) -> dict[int, WorkOrder]:
        """The order for the member that made the path's state, or else the first that is idle."""
        if not idle:
            return {}
        member = self._maker if self._maker in idle else idle[0]
        return {
            member: replace(
                arm,
                states=(*self._states, arm.start, arm.end),
                checkpoint=self._hyper_step % self.settings.checkpoint_every == 0,
            )
        }

    def _finish(self) -> FinishTraining:
        """Every trainer delivers the network of the path; its own, if that is lost."""
        said = f"{self.message}; " if self.message else ""
        return FinishTraining(
            values=self.values,
            start=self._state if self._state in self._states else None,
            states=(self._state,) if self._best_state is None else (self._state, self._best_state),
            best_state=self._best_state,
            metric=self.best.metric,
            mode=self.best.mode,
            remark=f"{said}accepted steps passed tests that err with a probability of at most"
            f" {self.settings.alpha:g} in all, on estimated curvature: nothing is certified",
            checkpoint=True,
        )

    # Tell --------------------------------------------------------------------------------------------

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if isinstance(report, Finished):
            self._issued.pop(member, None)
        return super().tell(member, report)

    def _told(self, member: int, report: Report) -> HyperStep | None:
        order = self._issued.pop(member)
        assert isinstance(order, TrainArm | FinishTraining)
        if isinstance(report, StateMissing):
            self._states.pop(order.start or "", None)
            if self.stopped == "budget":
                self.stopped = None  # the path is to be delivered all the same
            return None
        assert isinstance(order, TrainArm)
        assert isinstance(report, ArmTrained | CandidateDiverged)
        self._work += report.work
        self._busy[member] = self._busy.get(member, 0.0) + report.seconds
        if order.fresh:
            self._states[order.start] = report.training_step - report.work
        if isinstance(order, TrainStayArm):
            assert isinstance(report, ArmTrained)
            self._states[order.end] = report.training_step
            self._arms = {order.end: (member, order)}
            return self._tell_stay(report, order.end)
        assert isinstance(order, TrainCandidate)
        if order.again:
            if isinstance(report, CandidateDiverged):
                self._recipe = None
                return None
            self._state, self._maker = order.end, member
            self._states[order.end] = report.training_step
            return None
        if self._search is None or order.attempt != self._attempt:
            return None  # a candidate that lost after its search was decided
        if isinstance(report, ArmTrained):
            self._states[order.end] = report.training_step
            self._arms[order.end] = member, order
        self._search.reports[order.candidate] = report
        return self._decide(self._search)

    def _decide(self, search: Search) -> HyperStep | None:
        self._tests, decided, accepted = search.decide(self._tests, self.settings)
        if decided:
            return self._end(search, accepted)
        for candidate in range(search.tested):  # they failed
            self._states.pop(f"{self._attempt}.{candidate}", None)
        return None

    def _tell_stay(self, report: ArmTrained, end: str) -> HyperStep | None:
        mistake = self.settings.mistake_of(len(report.losses))
        if mistake is not None:
            raise mistake
        self._fresh = False
        self._spend()
        if report.hypergradient is None:
            self._training_step = report.training_step
            self._go_on_from(end)
            self._attempt += 1
            return None if self._warming_up() else self._marked(self._record(report, None), self._state)
        self._search = Search.along(report.hypergradient.hypergradient, self._u, self._step, report, self.settings)
        return self._decide(self._search)

    def _spend(self) -> None:
        """Trainers work side by side: the slowest one's time counts."""
        self._seconds += max(self._busy.values(), default=0.0)
        self._busy = {}

    def _end(self, search: Search, accepted: int | None) -> HyperStep:
        """The outer step is over: the path goes on from the end of the accepted arm, or of the one that stayed."""
        stay, state = f"{self._attempt}.stay", f"{self._attempt}.{'stay' if accepted is None else accepted}"
        report = search.stay if accepted is None else search.reports[accepted]
        assert isinstance(report, ArmTrained)
        self._spend()
        if accepted is not None:
            self._u = search.candidates[accepted].u
            self._sample += 1
        self._step = search.next_step(accepted, self.settings)
        self._training_step = report.training_step
        record = self._marked(self._record(report, search, accepted), state)
        self._gamma = search.proximal.gamma
        self._go_on_from(state, stay)
        self._attempt += 1
        self._search = None
        return record

    def _marked(self, step: HyperStep, state: str) -> HyperStep:
        """The hyper-step, whose network is kept to the end if it is the best so far."""
        if self.best.see(step):
            self._best_state = state
        return step

    def _go_on_from(self, state: str, *others: str) -> None:
        """The path goes on from a state; that before it and the best one are wanted still, and others."""
        wanted = (self._state, state, self._best_state, *others)
        self._states = {key: step for key, step in self._states.items() if key in wanted}
        self._state, (self._maker, self._recipe) = state, self._arms[state]

    def _record(self, kept: ArmTrained, search: Search | None, accepted: int | None = None) -> HyperStep:
        assert self.space is not None
        nothing = dict.fromkeys(("decrease_bound", "alpha_k", "ritz_min", "gamma", "residual"), math.nan)
        nothing |= dict.fromkeys(("candidates", "step", "at_floor", "hypergradient_norm"), 0.0)
        certificate = nothing if search is None else search.certificate(accepted)
        self._hyper_step += 1
        return HyperStep(
            number=self._hyper_step - 1,
            training_step=self._training_step,
            seconds=self._seconds,
            training_loss=kept.training_loss,
            validation_loss=kept.measures["validation_loss"],
            hyperparameters=self.hyperparameters,
            scale=torch.full_like(self._u, certificate["step"]),
            hypergradient=torch.zeros_like(self._u) if search is None else search.hypergradient,
            certificate={
                **certificate,
                "accepted": float(accepted is not None),
                "validation_samples": float(len(kept.losses)),
                "work": float(self._work),
                "certified": _CERTIFIED,
            },
            diagnostics=measured([kept]),
        )
