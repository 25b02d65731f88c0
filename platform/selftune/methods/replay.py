"""Replaying a schedule: a plain network trained with given hyperparameters, constant or moving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selftune.hyperparameters import Space
from selftune.methods.method import HyperStep, Method
from selftune.methods.reports import Diverged, Finished, Report, Trained
from selftune.methods.work_orders import FinishTraining, FollowSchedule, WorkOrder
from selftune.shapes import Float, Tensor


@dataclass(frozen=True)
class Segment:
    """Constrained ``values`` of the tuned hyperparameters, in force until ``training_step`` is done."""

    training_step: int
    values: Float[Tensor, "n"]


_CHUNK = 250  # training steps per order, so that the display moves and a stop comes soon


class Replay(Method):
    """Trains plain networks with a schedule; the last values are held once the schedule has ended.

    A constant schedule is training with fixed hyperparameters, the baseline of every comparison.

    Args:
        schedule: one or more segments in the order of their training steps.
        steps: training steps.
        team_size: number of independent networks.

    Raises:
        ValueError: if the schedule is empty or its training steps decrease.
    """

    def __init__(self, schedule: Sequence[Segment], steps: int, team_size: int = 1) -> None:
        ends = [segment.training_step for segment in schedule]
        if not ends or ends != sorted(ends):
            raise ValueError("a schedule needs segments whose training steps do not decrease")
        self.schedule = list(schedule)
        self.steps = steps
        self.team_size = team_size
        self._done_steps: dict[int, int] = {}
        self._state: dict[int, str] = {}
        self._assembled = False
        self._begins_with = team_size

    @property
    def can_grow(self) -> bool:
        return True

    def begin_with(self, members: int) -> None:
        """The networks are independent: the others are trained once there is room for them."""
        self._begins_with = members

    def join(self, member: int, space: Space) -> None:
        if len(self.schedule[0].values) != len(space):
            raise ValueError(
                f"the schedule moves {len(self.schedule[0].values)} hyperparameters, the study {len(space)}"
            )
        self._state.setdefault(member, "idle")
        self._done_steps.setdefault(member, 0)

    def leave(self, member: int) -> HyperStep | None:
        self._state.pop(member, None)
        self.team_size = max(1, self.team_size - 1)
        return None

    @property
    def done(self) -> bool:
        finished = all(state == "finished" for state in self._state.values())
        return self._assembled and finished and len(self._state) >= self.team_size

    def ask(self) -> dict[int, WorkOrder]:
        self._assembled = self._assembled or len(self._state) >= min(self._begins_with, self.team_size)
        if not self._assembled:
            return {}
        orders = {}
        for member, state in self._state.items():
            if state == "idle":
                orders[member] = self._order(self._done_steps[member])
                self._state[member] = "busy"
        return orders

    def _order(self, at: int) -> WorkOrder:
        if at >= self.steps:
            return FinishTraining(checkpoint=True)
        return FollowSchedule(segments=self._segments(at, min(at + _CHUNK, self.steps)))

    def _segments(self, start: int, end: int) -> tuple[tuple[int, Tensor], ...]:
        """(training steps, values) from ``start`` to ``end``."""
        segments = []
        at = start
        for segment in self.schedule:
            if segment.training_step > at and at < end:
                until = min(segment.training_step, end)
                segments.append((until - at, segment.values))
                at = until
        if at < end:
            segments.append((end - at, self.schedule[-1].values))
        return tuple(segments)

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if isinstance(report, Diverged):
            return self.leave(member)
        if isinstance(report, Finished):
            self._state[member] = "finished"
        elif isinstance(report, Trained):
            self._done_steps[member] = report.training_step
            self._state[member] = "idle"
        return None

    def state_dict(self) -> dict[str, Any]:
        return {
            "team_size": self.team_size,
            "done_steps": dict(self._done_steps),
            "state": dict(self._state),
            "assembled": self._assembled,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.team_size = state["team_size"]
        self._done_steps = dict(state["done_steps"])
        self._state = dict(state["state"])
        self._assembled = state["assembled"]
