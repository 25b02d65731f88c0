"""MAID as a state machine: inexact hypergradients, a test for descent, a line search with certified decrease."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from selftune.hyperparameters import Positive, Space
from selftune.methods.inexact_line_search_settings import InexactLineSearchSettings
from selftune.methods.leader import LeaderMethod, certified_active_set
from selftune.methods.method import HyperStep
from selftune.methods.quasi_newton import QuasiNewton, between
from selftune.methods.reports import CandidateSolved, Differentiated, Report
from selftune.methods.work_orders import Differentiate, SolveCandidate, WorkOrder
from selftune.shapes import Tensor
from selftune.storage.state_tree import record


@record
@dataclass(frozen=True)
class _Issued:
    """An order that is out: the state that it leaves, the search it is of, and the candidate, if it is of one."""

    key: str
    attempt: tuple[int, int]
    candidate: int | None


@record
@dataclass
class _Search:
    """One backtracking search: candidates from one point along one hypergradient."""

    hypergradient: Tensor
    direction: Tensor  # from the first candidate to where the search starts, but for the box
    length: float  # how far the box lets u move against the hypergradient
    lower_bound: float
    candidates: int
    slope: float  # of the upper level's uncertainty in the lower level's error
    accepted: int | None = None
    hopeless: int = 0  # candidates that are proven too high, which no accuracy changes
    rejected: int = 0  # candidates 0 .. rejected - 1 are known to fail
    outcomes: dict[int, bool] = field(default_factory=dict)
    winner: tuple[int, CandidateSolved] | None = None


_MAX_FAILED_SEARCHES = 20
_FAR = 2.0  # largest change of a hyperparameter in one step, where its scale is logarithmic
_DESCENDS = 1e-3  # smallest cosine between hypergradient and quasi-Newton direction
_ALONG_HOLLOW = 2.0  # growth of the step while the upper level curves downwards along it
_RESIDUAL = 0.03  # of the linear system, relative to its right side, while steps go well
_DOUBT = 0.25  # of the linear system's residual after a failed search or candidate
_VISIBLE = 2  # decrease expected of a candidate that is worth a solve, in units of what is uncertain at its start


class InexactLineSearch(LeaderMethod):
    """MAID (arXiv 2308.10098, algorithms 3.1 and 3.2) with extensions that keep its certificate.

    Every accepted step lowers the true upper level by at least ``decrease * step * norm^2``, although neither
    level is ever known exactly, if the objective's constants are proven. Trials are solved from one warm
    start; a team solves several at once and accepts the step that the sequential search accepts.

    Args:
        work: budget, in lower-level gradients and products of the whole team; None for no limit.
        steps: budget in accepted steps; None for no limit.
        settings: see ``InexactLineSearchSettings``.
        team_size: number of trainers.

    ``stopped`` says why the method is done: ``stationary`` (certified by proven constants), ``estimated`` (a
    constant is an estimate: nothing is certified), ``flat`` (the norm is small, no bound was asked for),
    ``floor``, ``searches``, ``budget``, ``lost``. The norm is that of ``u - P(u - z)``, P the projection onto
    the box: the hypergradient's, but for coordinates that the box stops. Above a lower level that is not smooth
    also ``pinned`` (stationary, because the active set leaves the parameters no direction) and ``kink`` in place
    of ``floor`` and ``searches``: mostly a point where the active set changes, which no accuracy helps.

    >>> method = InexactLineSearch(steps=5)
    >>> method.done
    False
    """

    stateful = False

    def __init__(
        self,
        work: int | None = None,
        steps: int | None = None,
        settings: InexactLineSearchSettings | None = None,
        team_size: int = 1,
    ) -> None:
        self.settings = settings or InexactLineSearchSettings()
        super().__init__(work, steps, team_size, self.settings.bound, self.settings.limits)
        self._issued: dict[int, _Issued] = {}  # member -> what its outstanding order is about
        self._attempt = 0
        self._error = self.settings.error
        self._residual = self.settings.residual
        self._step = self.settings.step
        self._backtracks = self.settings.backtracks
        self._failed_searches = 0
        self._search: _Search | None = None
        self._report: Differentiated | None = None
        self._relative = _RESIDUAL
        self._largest = 0.0
        self._retry: float | None = None
        self._curvature = QuasiNewton(max(self.settings.memory, 1))
        self._bounds = self.settings.descent_test and not self.settings.deferred_test
        self._tried = 0
        self._ahead = team_size  # candidates tried at the same time: as many as were needed lately

    # Team --------------------------------------------------------------------------------------------

    def _begin(self, space: Space) -> None:
        super()._begin(space)
        self._logarithmic = torch.tensor(
            [isinstance(h.domain, Positive) for h in space.tuned for _ in range(h.size)]
        )

    def _left(self, member: int) -> HyperStep | None:
        self._issued.pop(member, None)  # its candidate, if it had one, is given to somebody else
        return super()._left(member)

    # Ask ---------------------------------------------------------------------------------------------

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        if self._search is None:
            return self._ask_hypergradient(idle)
        orders = {}
        search = self._search
        # a search that goes on for longer than the last ones did tries twice as many each time
        ahead = max(self._ahead, search.rejected + 1) if self.settings.speculate else 1
        for member in self._leader_first(idle):
            candidate = self._next_candidate(search)
            if candidate is None or candidate >= search.rejected + ahead:
                break
            orders[member] = self._send(member, self._solve(search, candidate), candidate)
        return orders

    def _ask_hypergradient(self, idle: list[int]) -> dict[int, WorkOrder]:
        leader = self._lead(idle)
        if leader is None or any(issued.candidate is None for issued in self._issued.values()):
            return {}
        every = self.settings.checkpoint_every
        order = Differentiate(
            values=self.values,
            error=self._error,
            residual=self._residual,
            start=self._warm,
            end=self._key("hypergradient"),
            bounds="always" if self._bounds else "free",
            checkpoint=self._attempt == 0 and self._hyper_step > 0 and self._hyper_step % every == 0,
        )
        return {leader: self._send(leader, order)}

    @property
    def _accuracy(self) -> float:
        return self._error

    def _next_candidate(self, search: _Search) -> int | None:
        """The smallest candidate nobody solves or has solved, if its outcome can still matter."""
        busy = {issued.candidate for issued in self._issued.values()}
        limit = search.candidates if search.accepted is None else search.accepted
        for candidate in range(search.rejected, limit):
            if candidate not in search.outcomes and candidate not in busy:
                return candidate
        return None

    def _solve(self, search: _Search, candidate: int) -> SolveCandidate:
        u, expected, _ = self._candidate(search, candidate)
        return SolveCandidate(
            values=self._values_at(u),
            error=max(self.settings.share * expected / max(search.slope, 1e-300), self.settings.smallest_error),
            start=self._warm,
            end=self._key(f"candidate{candidate}"),
            states=self._wanted(None if search.accepted is None else self._key(f"candidate{search.accepted}")),
            threshold=search.lower_bound - self.settings.decrease * expected,
            early_acceptance=self.settings.early_acceptance,
            early_rejection=self.settings.early_rejection,
        )

    def _candidate(self, search: _Search, candidate: int) -> tuple[Tensor, float, float]:
        """(u of the candidate, decrease that the hypergradient expects of it, its step)."""
        direction = search.direction * self.settings.step_shrink**candidate
        u, z = self._project(self._u - direction), search.hypergradient
        return u, float((self._u - u) @ z), float(direction.norm() / z.norm())

    def _key(self, what: str) -> str:
        return f"{self._hyper_step}.{self._attempt}.{what}"

    def _send(self, member: int, order: Differentiate | SolveCandidate, candidate: int | None = None) -> WorkOrder:
        self._issued[member] = _Issued(order.end, (self._hyper_step, self._attempt), candidate)
        return order

    def _leader_first(self, idle: list[int]) -> list[int]:
        """The leader made the warm start: it takes the candidate that is most likely to win."""
        return sorted(idle, key=lambda member: (member != self._leader, member))

    # Tell --------------------------------------------------------------------------------------------

    def _told(self, member: int, report: Report) -> HyperStep | None:
        issued = self._issued.pop(member)
        if isinstance(report, Differentiated):
            self._tell_hypergradient(report, issued.key)
            return None
        current = issued.attempt == (self._hyper_step, self._attempt)
        if isinstance(report, CandidateSolved) and issued.candidate is not None and current:
            return self._tell_candidate(member, report, issued.candidate)
        return None  # a candidate that lost after its search was decided

    def _tell_hypergradient(self, report: Differentiated, key: str) -> None:
        z = report.hypergradient
        self._warm = key
        self._report = report
        if self._curvature.observe(self._u, z) is False and self._attempt == 0:
            assert self._step is not None
            self._step *= _ALONG_HOLLOW
        step = self._first_step(z)
        # of a step of length one: a longer one would run into the box and make any point look stationary
        length = float((self._u - self._project(self._u - z)).norm())
        tested, bound = self.settings.descent_test, report.bound
        small = length <= (0.5 if tested else 1.0) * self.settings.tolerance
        direction = self._direction(z, step)
        offset = self._u - self._project(self._u - direction)
        expected = float(z @ offset)
        sure = self._descends(bound, offset, expected)
        if self._spent():
            self.stopped = "budget"
        elif tested and length + bound <= self.settings.tolerance:
            stationary = "pinned" if self._nonsmooth and not bool(z.any()) else "stationary"
            self.stopped = stationary if report.certified else "estimated"
        elif small and not tested:
            self._believe_flat(report)
        elif small and math.isnan(bound):
            self._bounds = True
            self._attempt += 1
        elif small or (tested and self._bounds and not sure):
            along = expected / max(float(offset.norm()), 1e-300)  # length times the direction's cosine
            aim = self.settings.tolerance - length if small else (1 - self.settings.descent) * along
            self._sharpen(report.error, *self._factors(report, aim))
        else:
            search = _Search(z, direction, length, report.lower_bound, self._backtracks, report.slope)
            self._start_search(search, report.validation_loss - report.lower_bound)

    def _believe_flat(self, report: Differentiated) -> None:
        """A loose solution may be the solver's start itself, where the hypergradient can vanish for no reason."""
        tolerance = self.settings.tolerance
        loosest = max(report.error, report.residual)
        if loosest <= tolerance:
            self.stopped = "flat"
            return
        factors = (min(0.5 * tolerance / max(part, 1e-300), 1.0) for part in (report.error, report.residual))
        self._sharpen(report.error, *factors)

    @property
    def _seen(self) -> Differentiated:
        """The last report of a hypergradient."""
        assert self._report is not None
        return self._report

    @property
    def _nonsmooth(self) -> bool:
        """Whether the lower level has a term that is not smooth, by the last report of a hypergradient."""
        return self._seen.active_set_certified is not None

    def _descends(self, bound: float, offset: Tensor, expected: float) -> bool:
        """The direction test: whether the hypergradient's error leaves a share of the decrease expected."""
        return bound * float(offset.norm()) <= (1 - self.settings.descent) * expected

    def _factors(self, report: Differentiated, aim: float) -> list[float]:
        """By how much either accuracy must shrink for the hypergradient's error bound to fall to ``aim``."""
        bound, by_residual = report.bound, report.bound_by_residual
        parts = (bound, bound) if math.isnan(by_residual) else (bound - by_residual, by_residual)
        shrink, share = self.settings.accuracy_shrink, 0.4 * aim
        return [min(max(share / part, 1e-3), shrink) if part > share else 1.0 for part in parts]

    def _start_search(self, search: _Search, slack: float) -> None:
        """A search among the steps whose decrease can stand out from what is uncertain of the upper level here."""
        expected = self._candidate(search, 0)[1]
        viable = search.candidates
        if slack > 0:
            widths = math.log(max(expected / slack, 1e-300) / _VISIBLE) / -math.log(self.settings.step_shrink)
            viable = min(viable, math.floor(widths) + 1)
        if viable >= 1:
            search.candidates = viable
            self._search = search
            return
        self._failed_searches += 1
        if self._failed_searches > _MAX_FAILED_SEARCHES:
            self.stopped = "kink" if self._nonsmooth else "searches"
        factor = min(max(self.settings.share * expected / slack, 1e-6), self.settings.accuracy_shrink)
        self._sharpen(self._seen.error, factor)

    def _first_step(self, z: Tensor) -> float:
        """Where a search along the hypergradient itself starts."""
        if self._retry is not None:
            return self._retry
        if self._step is None:  # before the first accepted step: as long as this hypergradient says
            reach = 1.0 if bool(self._logarithmic.all()) else 0.1
            return reach * math.sqrt(len(z)) / max(float(z.norm()), self.settings.tolerance)
        suggested = self._curvature.barzilai_borwein() if self.settings.barzilai_borwein else None
        if suggested is None:
            return self._step
        return min(max(suggested, 1e-3 * self._step), 1e3 * self._step)

    def _direction(self, z: Tensor, step: float) -> Tensor:
        """The first candidate lies against it: quasi-Newton, or the hypergradient times ``step``."""
        steepest = self._near(step * z)
        if not self.settings.memory or not self._curvature.pairs or self._retry is not None:
            return steepest
        direction = self._near(between(self._curvature.direction(z), step * z, self._logarithmic))
        offset = self._u - self._project(self._u - direction)
        descends = float(z @ offset) > _DESCENDS * float(z.norm() * offset.norm())
        return direction if descends else steepest

    def _near(self, direction: Tensor) -> Tensor:
        """Limits each coordinate of logarithmic scale by itself, so that one does not hold back the others."""
        return torch.where(self._logarithmic, direction.clamp(-_FAR, _FAR), direction)

    def _sharpen(self, achieved: float, error_factor: float, residual_factor: float = 1.0) -> None:
        """Asks for more accuracy at the same point."""
        smallest = self.settings.smallest_error
        if error_factor < 1:
            if achieved > self._error or self._error < smallest:
                self.stopped = "kink" if self._nonsmooth else "floor"
            self._error = min(self._error, achieved) * error_factor
        if residual_factor < 1:
            if self._residual <= smallest and error_factor >= 1:  # else x has accuracy to give
                self.stopped = "kink" if self._nonsmooth else "floor"
            self._residual = max(min(self._residual, self._seen.residual) * residual_factor, smallest)
        self._attempt += 1

    def _tell_candidate(self, member: int, report: CandidateSolved, candidate: int) -> HyperStep | None:
        search = self._search
        assert search is not None
        self._tried += 1
        search.outcomes[candidate] = report.accepted
        search.hopeless += report.hopeless
        if search.outcomes[candidate] and (search.accepted is None or candidate < search.accepted):
            search.accepted = candidate
            search.winner = (member, report)
        while search.outcomes.get(search.rejected) is False:
            search.rejected += 1
        if search.accepted is not None and search.rejected == search.accepted:
            return self._accept(search)
        if search.rejected == search.candidates:
            self._fail()
        return None

    def _fail(self) -> None:
        """No candidate passed: smaller steps would not help, more accuracy does."""
        search, self._search = self._search, None
        assert search is not None
        self._failed_searches += 1
        if self._failed_searches > _MAX_FAILED_SEARCHES:
            self.stopped = "kink" if self._nonsmooth else "searches"
        self._curvature.forget()
        self._retry = self._candidate(search, search.hopeless)[2]
        self._relative *= _DOUBT
        # of candidates that are proven too high the step, or the direction, is to blame: the linear system first
        proven = search.hopeless == search.candidates >= self._backtracks
        exact = self._residual <= self.settings.smallest_error
        self._sharpen(self._seen.error, 1.0 if proven and not exact else self.settings.accuracy_shrink, _DOUBT)
        self._backtracks += 1

    def _accept(self, search: _Search) -> HyperStep:
        assert self.space is not None
        assert search.accepted is not None
        assert search.winner is not None
        member, report = search.winner
        u, expected, step = self._candidate(search, search.accepted)
        record = HyperStep(
            number=self._hyper_step,
            training_step=self._work,
            seconds=self._seconds,
            training_loss=report.training_loss,
            validation_loss=report.validation_loss,
            hyperparameters=self.hyperparameters,
            scale=torch.full_like(self._u, step),
            hypergradient=search.hypergradient,
            certificate={
                "error_asked": self._error,
                "error_reached": self._seen.error,
                "residual": self._seen.residual,
                "hypergradient_norm": float(search.hypergradient.norm()),
                "hypergradient_bound": bound if math.isfinite(bound := self._seen.bound) else math.nan,
                "upper_bound": report.upper_bound,
                "decrease": self.settings.decrease * expected,
                "direction_certified": float(self._descends(self._seen.bound, self._u - u, expected)),
                "step": step,
                "candidates": float(self._tried),
                "failed_searches": float(self._failed_searches),
                "work": float(self._work),
                "certified": float(self._seen.certified),
                **certified_active_set(self._seen),
            },
        )
        self._curvature.step_from(self._u, search.hypergradient)
        self._u = u
        self._leader = member if member in self._members else None
        self._warm = self._key(f"candidate{search.accepted}")
        self._step = self.settings.step_growth * step
        self._error = max(self.settings.share * expected / max(search.slope, 1e-300), self.settings.smallest_error)
        self._ahead = max(search.accepted + 1, self._ahead // 2)
        clean = search.accepted == 0
        self._relative = min(self._relative * (1.5 if clean else _DOUBT), _RESIDUAL)
        self._largest = max(self._largest, search.length)
        self._residual = self._relative * search.slope * search.length / self._largest
        self._retry = None
        self._bounds = self.settings.descent_test and not self.settings.deferred_test
        self._backtracks = self.settings.backtracks
        self._failed_searches = self._tried = 0
        self._attempt = 0
        self._search = None
        self._end_of_step()
        return record

    # State -------------------------------------------------------------------------------------------

    SAVED = (
        *LeaderMethod.SAVED, "_issued", "_attempt", "_bounds", "_relative", "_largest", "_retry", "_curvature",
        "_ahead", "_error", "_residual", "_step", "_backtracks", "_failed_searches", "_report",
        "_tried", "_search",
    )  # fmt: skip
