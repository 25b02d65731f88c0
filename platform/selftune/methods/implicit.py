"""HOAG as a state machine: steps against implicit hypergradients whose accuracy follows a fixed sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.hyperparameters import Space
from selftune.methods.box import Limits, check_limits
from selftune.methods.leader import LeaderMethod, certified_active_set
from selftune.methods.method import HyperStep
from selftune.methods.reports import Differentiated, Report
from selftune.methods.synchronization import WITHOUT_TEAM_MEAN
from selftune.methods.update_rules import UpdateName, UpdateRule, UpdateSettings
from selftune.methods.work_orders import Differentiate, WorkOrder
from selftune.shapes import Tensor
from selftune.storage.state_tree import record

Sequence = Literal["exponential", "quadratic", "cubic", "exact", "fixed"]


@dataclass(frozen=True)
class ImplicitSettings:
    """Settings of ``Implicit``; symbols are those of HOAG (arXiv 1602.02355).

    Args:
        sequence: accuracy of iteration k = 1, 2, ...: ``exponential`` (error 0.9^(k-1)), ``quadratic``
            (error / k^2), ``cubic`` (error / k^3), ``exact`` (as rounding allows), or ``fixed``.
        error: first accuracy (epsilon): of the lower level, a distance to its minimiser, and of the linear system,
            the norm of its residual.
        smallest_error: no accuracy below this is asked for; rounding forbids it.
        update: ``hoag`` is its adaptive step; the others are the update rules of all online methods.
        step: first step size of ``hoag`` (1 / L); None takes the one that moves the hyperparameters by about 1.
        learning_rate: of the other update rules.
        rollback: whether a rejected step of ``hoag`` is undone and retried half as long; else it is kept, and the
            next one is half as long.
        bound, limits: as of ``InexactLineSearchSettings``.
        tolerance: stops when the hypergradient's norm is at most this, seen at an accuracy of that size; none of
            it is certified.
        error_bounds: whether the error bound of every hypergradient is reported; costs products where constants
            are estimated.
        checkpoint_every: hypergradients from one checkpoint to the next.
    """

    REFUSED: ClassVar[Mapping[str, str]] = WITHOUT_TEAM_MEAN

    sequence: Sequence = "exponential"
    error: float = 0.1
    smallest_error: float = 1e-12
    update: Literal["hoag"] | UpdateName = "hoag"
    step: float | None = None
    learning_rate: float = 0.05
    rollback: bool = True
    bound: float | None = None
    limits: Limits | None = None
    tolerance: float = 1e-6
    error_bounds: bool = False
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        check_limits(self.limits)
        for key in ("error", "smallest_error", "step", "learning_rate", "bound", "tolerance"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        if self.checkpoint_every < 1:
            raise SettingError("checkpoint_every", f"must be at least 1, got {self.checkpoint_every}")
        if self.step is not None and self.update != "hoag":
            raise SettingError("step", f"is a setting of hoag; set learning_rate with {self.update}")

    def accuracy(self, iteration: int) -> float:
        """The error asked for in an iteration, counted from 1.

        >>> [ImplicitSettings(sequence="quadratic").accuracy(k) for k in (1, 2)]
        [0.1, 0.025]
        """
        factors: dict[str, float] = {
            "exponential": 0.9 ** (iteration - 1),
            "quadratic": iteration**-2.0,
            "cubic": iteration**-3.0,
            "exact": 0.0,
            "fixed": 1.0,
        }
        factor = factors[self.sequence]
        return max(self.error * factor, self.smallest_error)


@record
@dataclass
class _Point:
    """Where a step started, and what was seen there."""

    u: Tensor
    hypergradient: Tensor
    warm: str
    level: float
    error: float


# HOAG's constants: slack of the decrease, growth of the step, how much worse counts as a failure
_SLACK, _GROWTH, _WORSE = 0.25, 0.95, 0.2
_DIVERGED = 1e6
_RETRIES = 10


class Implicit(LeaderMethod):
    """HOAG, "Hyperparameter optimization with approximate gradient" (arXiv 1602.02355): no line search.

    One member solves and differentiates, from its last solution; the others wait for the end. Unlike the authors'
    code it makes one update per iteration, applies the box after every update, and takes a rejected step back to
    where it started.

    Args:
        work: budget, in lower-level gradients and products; None for no limit.
        steps: budget in steps; None for no limit.
        settings: see ``ImplicitSettings``.
        team_size: number of trainers.

    ``stopped`` says why the method is done: ``flat``, ``budget``, ``diverged`` (see ``message``), ``lost``.

    >>> Implicit(steps=5, settings=ImplicitSettings(sequence="cubic")).done
    False
    """

    stateful = False  # a report depends on its order and on the warm start that this names

    def __init__(
        self,
        work: int | None = None,
        steps: int | None = None,
        settings: ImplicitSettings | None = None,
        team_size: int = 1,
    ) -> None:
        self.settings = settings or ImplicitSettings()
        super().__init__(work, steps, team_size, self.settings.bound, self.settings.limits)
        self._iteration = 0
        self._rule: UpdateRule | None = None
        self._sharpened = 1.0
        self._smoothness: float | None = None if self.settings.step is None else 1 / self.settings.step
        self._last: _Point | None = None
        self._start_level: float | None = None
        self._rejected = 0

    # Team --------------------------------------------------------------------------------------------

    def _begin(self, space: Space) -> None:
        super()._begin(space)
        self._make_rule()

    def _make_rule(self) -> None:
        if self.settings.update != "hoag":
            settings = UpdateSettings(self.settings.update, self.settings.learning_rate, bound=self.settings.bound)
            self._rule = UpdateRule(settings, [self._u])

    # Ask ---------------------------------------------------------------------------------------------

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        leader = self._lead(idle)
        if leader is None:
            return {}
        order = Differentiate(
            values=self.values,
            error=self._accuracy,
            residual=self._accuracy,
            start=self._warm,
            end=f"{self._iteration}.hypergradient",
            states=self._wanted(None if self._last is None else self._last.warm),
            bounds="always" if self.settings.error_bounds else "never",
            checkpoint=(self._iteration + 1) % self.settings.checkpoint_every == 0,
        )
        return {leader: order}

    @property
    def _accuracy(self) -> float:
        return max(self._sharpened * self.settings.accuracy(self._iteration + 1), self.settings.smallest_error)

    # Tell --------------------------------------------------------------------------------------------

    def _told(self, member: int, report: Report) -> HyperStep | None:
        assert isinstance(report, Differentiated)
        asked, level, z = self._accuracy, report.validation_loss, report.hypergradient
        point = _Point(self._u.clone(), z, f"{self._iteration}.hypergradient", level, asked)
        self._warm = point.warm
        self._iteration += 1
        if self._diverged(point):
            return None
        if self._smoothness is None:
            norm = float(z.norm())
            self._smoothness = norm / math.sqrt(len(z)) if norm > 1e-3 else 1.0
        spent = self._spent()
        if self.settings.update == "hoag" and self._judge(point):
            self.stopped = "budget" if spent else None
            return None
        flat = float((self._u - self._project(self._u - z)).norm()) <= self.settings.tolerance
        if flat and not spent and asked > max(self.settings.tolerance, self.settings.smallest_error):
            # a loose solution may be the solver's start itself, where the hypergradient can vanish for no reason
            self._sharpened *= self.settings.tolerance / asked
            self._last = None
            return None
        if flat or spent:
            self.stopped = "flat" if flat else "budget"
            return None
        return self._step(point, report)

    def _diverged(self, point: _Point) -> bool:
        if self._start_level is None:
            self._start_level = point.level
        start = self._start_level
        if not (math.isfinite(point.level) and bool(torch.isfinite(point.hypergradient).all())):
            self.message = f"the upper level or its hypergradient is not finite in iteration {self._iteration}"
        elif point.level - start > _DIVERGED * max(1e-12, abs(start)):
            self.message = f"the upper level rose from {start:g} to {point.level:g}"
        else:
            return False
        if self._last is not None:
            self._u = self._last.u.clone()
        self.message += "; take smaller steps, or inexact_line_search, which certifies every step"
        self.stopped = "diverged"
        return True

    def _judge(self, point: _Point) -> bool:
        """Adapts L to the step that led here; True if the step is undone."""
        last = self._last
        assert self._smoothness is not None
        if last is None:
            return False
        length = float(point.hypergradient.norm()) / self._smoothness
        slack = _SLACK * point.error + last.error * (1 + _SLACK) * length - self._smoothness * length**2
        if point.level <= last.level + slack:
            self._smoothness *= _GROWTH
        elif point.level >= last.level + _WORSE * abs(last.level):
            self._smoothness *= 2
            self._sharpened *= 0.5
            self._rejected += 1
            if self.settings.rollback:
                self._roll_back(last)
                return True
        return False

    def _roll_back(self, last: _Point) -> None:
        self._warm = last.warm
        if self._rejected % _RETRIES:
            self._move(last)
        else:  # its level was perhaps seen too loosely to be reached again: look once more
            self._u, self._last = last.u.clone(), None

    def _step(self, point: _Point, report: Differentiated) -> HyperStep:
        assert self.space is not None
        here = self.hyperparameters
        self._last = point
        self._move(point)
        moved = float((self._u - point.u).norm())
        norm = float(point.hypergradient.norm())
        step = moved / norm if norm > 0 else 0.0
        record = HyperStep(
            number=self._hyper_step,
            training_step=self._work,
            seconds=self._seconds,
            training_loss=math.nan,
            validation_loss=point.level,
            hyperparameters=here,
            scale=torch.full_like(point.u, step),
            hypergradient=point.hypergradient,
            certificate={
                "error_asked": point.error,
                "error_reached": report.error,
                "residual": report.residual,
                "hypergradient_norm": norm,
                "hypergradient_bound": report.bound if math.isfinite(report.bound) else math.nan,
                "step": step,
                "rejected": float(self._rejected),
                "work": float(self._work),
                "certified": 0.0,
                **certified_active_set(report),
            },
        )
        self._rejected = 0
        self._end_of_step()
        return record

    def _move(self, point: _Point) -> None:
        """One step from a point."""
        if self._rule is not None:
            self._rule.step([point.hypergradient])
            self._u.copy_(self._project(self._u))  # in place: the rule holds it
            return
        assert self._smoothness is not None
        self._u = self._project(point.u - point.hypergradient / self._smoothness)

    # State -------------------------------------------------------------------------------------------

    SAVED = (
        *LeaderMethod.SAVED, "_iteration", "_sharpened", "_smoothness", "_last", "_start_level", "_rejected",
    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"rule": None if self._rule is None else self._rule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self._rule is not None:
            self._make_rule()
            self._rule.load_state_dict(state["rule"])
