"""Stochastic bilevel methods as a state machine: one trainer moves parameters and hyperparameters on batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.methods.box import Limits, check_limits
from selftune.methods.leader import LeaderMethod
from selftune.methods.method import HyperStep
from selftune.methods.reports import Iterated, Report
from selftune.methods.synchronization import WITHOUT_TEAM_MEAN
from selftune.methods.work_orders import Iterate, WorkOrder

Algorithm = Literal["saba", "soba", "amigo", "stocbio"]

_DOUBLE_LOOPS = ("amigo", "stocbio")


@dataclass(frozen=True)
class StochasticBilevelSettings:
    """Settings of ``StochasticBilevel``.

    Args:
        algorithm: ``saba`` and ``soba`` (arXiv 2201.13409) move everything at once, ``saba`` with a memory of
            every batch, which removes the noise in the limit; ``amigo`` (arXiv 2111.14580) and ``stocbio`` (arXiv
            2010.07962) take several steps of the parameters and of the linear system before each one of the
            hyperparameters.
        inner_rate: step of the parameters and of the linear system; None takes a share of what the largest
            curvature of any batch allows, a third for ``saba``, half for the others.
        outer_rate: step of the unconstrained hyperparameters.
        decay: in iteration k, counted from 1, both steps are k^-decay times as long, in [0, 1]; None is 0.5 for
            ``soba``, whose noise does not vanish, and 0 for the others.
        batch_size: examples of a batch, of both levels.
        inner_steps, linear_steps: of ``amigo`` and ``stocbio``: steps of the parameters and products of the linear
            system per iteration; None is 10.
        iterations: from one hyper-step of the trajectory to the next; every iteration moves the hyperparameters.
        solver, error: the lower-level solver, and the distance to the minimiser, with which the end is measured.
        bound, limits: as of ``InexactLineSearchSettings``.
        checkpoint_every: hyper-steps from one checkpoint to the next.

    Raises:
        SettingError: if a setting is out of its range, or one that the algorithm does not read.
    """

    REFUSED: ClassVar[Mapping[str, str]] = WITHOUT_TEAM_MEAN

    algorithm: Algorithm = "amigo"
    inner_rate: float | None = None
    outer_rate: float = 0.1
    decay: float | None = None
    batch_size: int = 32
    inner_steps: int | None = None
    linear_steps: int | None = None
    iterations: int = 100
    solver: Literal["newton", "accelerated_gradient", "lbfgs"] = "newton"
    error: float = 1e-6
    bound: float | None = None
    limits: Limits | None = None
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        check_limits(self.limits)
        for key in ("inner_rate", "outer_rate", "error", "bound"):
            value = getattr(self, key)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(key, f"must be a positive number, got {value}")
        for key in ("batch_size", "inner_steps", "linear_steps", "iterations", "checkpoint_every"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise SettingError(key, f"must be at least 1, got {value}")
        if self.decay is not None and not 0 <= self.decay <= 1:
            raise SettingError("decay", f"must be in [0, 1], got {self.decay}")
        for key in ("inner_steps", "linear_steps"):
            if getattr(self, key) is not None and self.algorithm not in _DOUBLE_LOOPS:
                raise SettingError(key, f"is a setting of {' and '.join(_DOUBLE_LOOPS)}; leave it out")


class StochasticBilevel(LeaderMethod):
    """Hypergradients from batches: parameters, linear system and hyperparameters move together.

    For smooth problems whose two levels are means over many examples. One trainer iterates; the others wait for
    the end. No step is certified. At the end the lower level is solved, and both levels are measured there.

    Args:
        work: budget, in lower-level gradients and products, those of a batch counted by its share of the
            examples; None for no limit.
        steps: budget in hyper-steps, of ``iterations`` iterations each; None for no limit.
        settings: see ``StochasticBilevelSettings``.
        team_size: number of trainers.

    ``stopped`` says why the method is done: ``budget``, ``diverged`` (see ``message``), ``lost``.

    >>> StochasticBilevel(steps=5, settings=StochasticBilevelSettings(algorithm="soba")).done
    False
    """

    stateful = False  # a report depends on its order and on the warm start that this names

    def __init__(
        self,
        work: int | None = None,
        steps: int | None = None,
        settings: StochasticBilevelSettings | None = None,
        team_size: int = 1,
    ) -> None:
        self.settings = settings or StochasticBilevelSettings()
        super().__init__(work, steps, team_size, self.settings.bound, self.settings.limits)

    @property
    def _accuracy(self) -> float:
        return self.settings.error

    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        leader = self._lead(idle)
        if leader is None:
            return {}
        low, high = self._box
        order = Iterate(
            values=self.values,
            error=self._accuracy,
            start=self._warm,
            end=self._key,
            iterations=self.settings.iterations,
            low=low,
            high=high,
            checkpoint=(self._hyper_step + 1) % self.settings.checkpoint_every == 0,
        )
        return {leader: order}

    @property
    def _key(self) -> str:
        return f"{self._hyper_step}.iterations"

    def _told(self, member: int, report: Report) -> HyperStep | None:
        assert self.space is not None
        assert isinstance(report, Iterated)
        moved, hypergradient = report.moved, report.hypergradient
        if not (math.isfinite(report.validation_loss) and bool(torch.isfinite(moved).all())):
            self.stopped = "diverged"
            self._warm = None  # its parameters are on their way out
            self.message = (
                f"parameters or hyperparameters were not finite after {self._hyper_step + 1} hyper-steps; take a"
                " smaller inner_rate or outer_rate"
            )
            return None
        self._warm = self._key
        record = HyperStep(
            number=self._hyper_step,
            training_step=self._work,
            seconds=self._seconds,
            training_loss=report.training_loss,
            validation_loss=report.validation_loss,
            hyperparameters=self.space.constrain(self._u.clone()),
            scale=torch.full_like(self._u, float((moved - self._u).norm())),
            hypergradient=hypergradient,
            certificate={
                "hypergradient_norm": float(hypergradient.norm()),
                "hypergradient_bound": math.nan,
                "error_asked": math.nan,
                "inner_rate": report.inner_rate,
                "work": float(self._work),
                "certified": 0.0,
            },
        )
        self._u = moved
        if self._spent():
            self.stopped = "budget"
        self._end_of_step()
        return record
