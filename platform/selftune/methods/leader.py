"""Methods whose lower level is solved to a tolerance: one trainer, the leader, makes the warm start."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.box import Limits, box_mistakes, box_of
from selftune.methods.method import HyperStep
from selftune.methods.reports import Differentiated, Report, Solved
from selftune.methods.team_method import TeamMethod
from selftune.methods.work_orders import FinishSolving
from selftune.shapes import Float, Tensor


class LeaderMethod(TeamMethod):
    """Keeps the budget in work and steps, the leader, and the name of its warm start.

    Args:
        work: budget, in lower-level gradients and products of the whole team; None for no limit.
        steps: budget in steps; None for no limit.
        team_size: number of trainers.
        bound: largest unconstrained value in size; None for where the scales of the domains end, see ``box_of``.
        limits: of values, by name; they go before the bound.
    """

    PRECISION = torch.float64
    SAVED: ClassVar[tuple[str, ...]] = ("_leader", "_warm", "_work")

    def __init__(
        self,
        work: int | None,
        steps: int | None,
        team_size: int,
        bound: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(team_size)
        self.work_budget = work
        self.step_budget = steps
        self._bound, self._limits = bound, limits
        self._leader: int | None = None
        self._warm: str | None = None
        self._work = 0

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        yield from box_mistakes(space, self._bound, self._limits)

    def _begin(self, space: Space) -> None:
        super()._begin(space)
        self._box = box_of(space, self._bound, self._limits)

    def _left(self, member: int) -> HyperStep | None:
        if self._leader == member:
            self._leader = None
        return None

    @property
    @abstractmethod
    def _accuracy(self) -> float:
        """The error that the lower level is solved to now."""

    def _finish(self) -> FinishSolving:
        return FinishSolving(
            values=self.values,
            error=self._accuracy,
            start=self._warm,
            stopped=self.message or self.stopped or "",
            checkpoint=True,
        )

    def _wanted(self, other: str | None = None) -> tuple[str, ...]:
        """Keys of the states that orders may start from: the warm start, and another one."""
        return tuple(key for key in (self._warm, other) if key is not None)

    def _lead(self, idle: list[int]) -> int | None:
        """The leader, if it is idle; where nobody leads, the first idle member does from now on."""
        if self._leader is None and idle:
            self._leader = idle[0]
        return self._leader if self._leader in idle else None

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if isinstance(report, Solved):
            self._work += report.work
            self._seconds += report.seconds
        return super().tell(member, report)

    def _spent(self) -> bool:
        return self.work_budget is not None and self._work >= self.work_budget

    def _end_of_step(self) -> None:
        """Counts a step, the last one if the budget says so."""
        self._hyper_step += 1
        if self.step_budget is not None and self._hyper_step >= self.step_budget:
            self.stopped = "budget"

    def _project(self, u: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return torch.clamp(u, *self._box)


def certified_active_set(report: Differentiated) -> dict[str, float]:
    """What a certificate says of the active set; nothing above a lower level that is smooth."""
    known = report.active_set_certified
    return {} if known is None else {"active_set_certified": float(known)}
