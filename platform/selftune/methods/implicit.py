"""HOAG as a state machine: steps against implicit hypergradients whose accuracy follows a fixed sequence."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.method import HyperStep, Method, Report, WorkOrder
from selftune.methods.update_rules import UpdateName, UpdateRule, UpdateSettings
from selftune.shapes import Float, Tensor

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
        bound: largest unconstrained value in size.
        tolerance: stops when the hypergradient's norm is at most this, of which nothing is certified.
        error_bounds: whether the error bound of every hypergradient is reported; costs products where constants
            are estimated.
    """

    sequence: Sequence = "exponential"
    error: float = 0.1
    smallest_error: float = 1e-12
    update: Literal["hoag"] | UpdateName = "hoag"
    step: float | None = None
    learning_rate: float = 0.05
    rollback: bool = True
    bound: float = 30.0
    tolerance: float = 1e-6
    error_bounds: bool = False

    def __post_init__(self) -> None:
        if self.sequence not in get_args(Sequence):
            raise SettingError(
                "sequence", f"must be one of {', '.join(get_args(Sequence))}, got {self.sequence!r}"
            )
        names = ("hoag", *get_args(UpdateName))
        if self.update not in names:
            raise SettingError("update", f"must be one of {', '.join(names)}, got {self.update!r}")
        for key in ("error", "smallest_error", "step", "learning_rate", "bound", "tolerance"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
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


class Implicit(Method):
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

    def __init__(
        self,
        work: int | None = None,
        steps: int | None = None,
        settings: ImplicitSettings | None = None,
        team_size: int = 1,
    ) -> None:
        self.work_budget = work
        self.step_budget = steps
        self.settings = settings or ImplicitSettings()
        self.team_size = team_size
        self.space: Space | None = None
        self.stopped: str | None = None
        self.message = ""
        self._members: dict[int, str] = {}  # member -> idle | busy | finished
        self._assembled = False
        self._leader: int | None = None
        self._warm: str | None = None
        self._iteration = 0
        self._hyper_step = 0
        self._u = torch.empty(0)
        self._rule: UpdateRule | None = None
        self._sharpened = 1.0
        self._smoothness: float | None = None if self.settings.step is None else 1 / self.settings.step
        self._last: _Point | None = None
        self._start_level: float | None = None
        self._rejected = 0
        self._work = 0
        self._seconds = 0.0

    # Team --------------------------------------------------------------------------------------------

    def join(self, member: int, space: Space) -> None:
        if self.space is None:
            if not len(space):
                raise SettingError("objective", "no hyperparameter is tuned; mark at least one with a start")
            self.space = space
            self._u = space.start.double()
            self._make_rule()
        elif self.space != space:
            raise ValueError(f"member {member} tunes other hyperparameters than the rest of its team")
        self._members.setdefault(member, "idle")

    def _make_rule(self) -> None:
        if self.settings.update != "hoag":
            settings = UpdateSettings(self.settings.update, self.settings.learning_rate, bound=self.settings.bound)
            self._rule = UpdateRule(settings, [self._u])

    def leave(self, member: int) -> HyperStep | None:
        self._members.pop(member, None)
        self.team_size = max(1, self.team_size - 1)
        if self._leader == member:  # its warm starts are gone: the same point is solved cold, elsewhere
            self._leader = self._warm = None
        if self._assembled and not self._members:
            self.stopped = self.stopped or "lost"
        return None

    @property
    def done(self) -> bool:
        return self.stopped is not None and all(state == "finished" for state in self._members.values())

    @property
    def hyperparameters(self) -> Float[Tensor, "n"]:
        """The current constrained values of the tuned hyperparameters."""
        assert self.space is not None
        return self.space.constrain(self._u.clone())

    # Ask ---------------------------------------------------------------------------------------------

    def ask(self) -> dict[int, WorkOrder]:
        if not self._assembled:
            if len(self._members) < self.team_size:
                return {}
            self._assembled = True
        idle = sorted(member for member, state in self._members.items() if state == "idle")
        if self.stopped is not None:
            return {member: self._send(member, self._finish()) for member in idle}
        if self._leader is None and idle:
            self._leader = idle[0]
        if self._leader not in idle:
            return {}
        body = {
            "unconstrained": self._u.clone(),
            "error": self._error,
            "residual": self._error,
            "warm": self._warm,
            "key": f"{self._iteration}.hypergradient",
            "bounds": "always" if self.settings.error_bounds else "never",
        }
        return {self._leader: self._send(self._leader, WorkOrder("hypergradient", body))}

    @property
    def _error(self) -> float:
        return max(self._sharpened * self.settings.accuracy(self._iteration + 1), self.settings.smallest_error)

    def _finish(self) -> WorkOrder:
        body = {
            "unconstrained": self._u.clone(),
            "error": self._error,
            "warm": self._warm,
            "stopped": self.message or self.stopped,
        }
        source = None if self._leader is None or self._warm is None else (self._leader, self._warm)
        return WorkOrder("finish", body, checkpoint=True, warm_from=source)

    def _send(self, member: int, order: WorkOrder) -> WorkOrder:
        self._members[member] = "busy"
        return order

    # Tell --------------------------------------------------------------------------------------------

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if report.kind == "diverged":
            return self.leave(member)
        self._members[member] = "finished" if report.kind == "finish" else "idle"
        self._work += int(report.metrics.get("work", 0))
        self._seconds += report.metrics.get("seconds", 0.0)
        return self._tell_hypergradient(report) if report.kind == "hypergradient" else None

    def _tell_hypergradient(self, report: Report) -> HyperStep | None:
        asked, level, z = self._error, report.metrics["validation_loss"], report.payload["hypergradient"]
        point = _Point(self._u.clone(), z, f"{self._iteration}.hypergradient", level, asked)
        self._warm = point.warm if self._leader is not None else None
        self._iteration += 1
        if self._diverged(point):
            return None
        if self._smoothness is None:
            norm = float(z.norm())
            self._smoothness = norm / math.sqrt(len(z)) if norm > 1e-3 else 1.0
        spent = self.work_budget is not None and self._work >= self.work_budget
        if self.settings.update == "hoag" and self._judge(point):
            self.stopped = "budget" if spent else None
            return None
        flat = float((self._u - self._project(self._u - z)).norm()) <= self.settings.tolerance
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
        self._warm = last.warm if self._leader is not None else None
        if self._rejected % _RETRIES:
            self._move(last)
        else:  # its level was perhaps seen too loosely to be reached again: look once more
            self._u, self._last = last.u.clone(), None

    def _step(self, point: _Point, report: Report) -> HyperStep:
        assert self.space is not None
        metrics = report.metrics
        self._last = point
        self._move(point)
        moved = float((self._u - point.u).norm())
        norm = float(point.hypergradient.norm())
        step = moved / norm if norm > 0 else 0.0
        record = HyperStep(
            number=self._hyper_step,
            training_step=self._work,
            seconds=self._seconds,
            training_loss=metrics.get("training_loss", math.nan),
            validation_loss=point.level,
            hyperparameters=self.space.constrain(point.u.clone()),
            scale=torch.full_like(point.u, step),
            hypergradient=point.hypergradient,
            certificate={
                "error_asked": point.error,
                "error_reached": metrics["error"],
                "residual": metrics["residual"],
                "hypergradient_norm": norm,
                "hypergradient_bound": metrics["bound"],
                "step": step,
                "rejected": float(self._rejected),
                "work": float(self._work),
                "certified": 0.0,
            },
        )
        self._rejected = 0
        self._hyper_step += 1
        if self.step_budget is not None and self._hyper_step >= self.step_budget:
            self.stopped = "budget"
        return record

    def _move(self, point: _Point) -> None:
        """One step from a point."""
        if self._rule is not None:
            self._rule.step([point.hypergradient])
            return
        assert self._smoothness is not None
        self._u = self._project(point.u - point.hypergradient / self._smoothness)

    def _project(self, u: Tensor) -> Tensor:
        return u.clamp(-self.settings.bound, self.settings.bound)

    # State -------------------------------------------------------------------------------------------

    _SAVED = (
        "space", "team_size", "stopped", "message", "_members", "_assembled", "_leader", "_warm", "_iteration",
        "_hyper_step", "_u", "_sharpened", "_smoothness", "_last", "_start_level", "_rejected", "_work",
        "_seconds",
    )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything, at a moment when no report is half told."""
        state = copy.deepcopy({name: getattr(self, name) for name in self._SAVED})
        return state | {"rule": None if self._rule is None else self._rule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = copy.deepcopy(dict(state))
        rule = saved.pop("rule")
        for name, value in saved.items():
            setattr(self, name, value)
        if rule is not None:
            self._make_rule()
            assert self._rule is not None
            self._rule.load_state_dict(rule)
