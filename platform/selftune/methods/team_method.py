"""What all methods keep about their team: who is there, who is busy, and why the method stopped."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any, ClassVar

import torch

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.hyperparameters import Space
from selftune.methods.best_step import BestStep, Mode
from selftune.methods.method import HyperStep, Method
from selftune.methods.reports import Diverged, Finished, Report
from selftune.methods.values import Values
from selftune.methods.work_orders import Finish, WorkOrder
from selftune.shapes import Float, Tensor

MOST_TRAINERS = 10_000
CANNOT_GROW = (
    "is for methods whose trainers each train a network of their own, in step with the others; leave it out"
)
"""Why a team may not begin with fewer trainers than it has: what settings of that are refused with."""


class TeamMethod(Method):
    """A method whose trainers share one hyperparameter vector.

    Nothing is asked before ``team_size`` trainers have joined. Once ``stopped`` says why, every trainer gets the
    order that ends it.

    Attributes:
        best: the best hyper-step by the metric, of methods that train networks.

    Subclasses list in ``SAVED`` the attributes that are their state, and in ``PRECISION`` the type of the vector.

    Args:
        team_size: number of trainers.

    Raises:
        SettingError: if there is no such team; by ``join``, if the method cannot tune the hyperparameters.
    """

    group_size: ClassVar[int] = 1
    """So many neighbours in a team are to share their random numbers; its size is a multiple of it."""
    PRECISION: ClassVar[torch.dtype] = torch.float32
    SAVED: ClassVar[tuple[str, ...]] = ()
    _TEAM: ClassVar[tuple[str, ...]] = (
        "team_size", "stopped", "message", "best", "_members", "_assembled", "_u", "_hyper_step", "_seconds",
    )  # fmt: skip

    def __init__(self, team_size: int = 1) -> None:
        check_team(team_size, self.group_size)
        self.team_size = team_size
        self.space: Space | None = None
        self.stopped: str | None = None
        self.message = ""
        self.best = BestStep()
        self._members: dict[int, str] = {}  # member -> idle | busy | finished
        self._assembled = False
        self._u = torch.empty(0)
        self._values: Values | None = None
        self._hyper_step = 0
        self._seconds = 0.0

    @property
    def hyperparameters(self) -> Float[Tensor, "n"]:
        """The current constrained values of the tuned hyperparameters."""
        return self.values.constrained.clone()

    @property
    def values(self) -> Values:
        """The current values of the tuned hyperparameters; constrained once, when the vector has moved."""
        made = self._values
        if made is None or made.version != self._hyper_step or not torch.equal(made.unconstrained, self._u):
            made = self._values = self._values_at(self._u)
        return made

    def _values_at(self, unconstrained: Float[Tensor, "n"]) -> Values:
        """The values of another vector, made now."""
        assert self.space is not None
        u = unconstrained.clone()
        return Values(u, self.space.constrain(u), self._hyper_step)

    def judge_by(self, metric: str, mode: Mode) -> None:
        """Sets the metric by which ``best`` is the best hyper-step; until then it is the validation loss."""
        self.best = BestStep(metric, mode)

    @property
    def done(self) -> bool:
        return self.stopped is not None and all(state == "finished" for state in self._members.values())

    @property
    def first_network(self) -> tuple[int, str | None]:
        """Who has the network that would come out first if the run ended now, in the state that its trainer is in;
        or else the key of the state that holds it, whoever keeps that.
        """
        return min(self._members), None

    # Team --------------------------------------------------------------------------------------------

    def begin_with(self, members: int) -> None:
        if not self.can_grow:
            super().begin_with(members)
        self.team_size = members

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        if not len(space):
            yield SettingError("regularizers", "nothing is tuned; give at least one hyperparameter a start")

    def join(self, member: int, space: Space) -> None:
        if self.space is None:
            for mistake in self.mistakes(space):
                raise mistake.at_call()
            self._begin(space)
        elif self.space != space:
            raise ValueError(f"member {member} tunes other hyperparameters than the rest of its team")
        if self._assembled and member not in self._members:
            self.team_size += 1
        self._members.setdefault(member, "idle")

    def _begin(self, space: Space) -> None:
        """The space is known: the hyperparameters are at their start."""
        self.space = space
        self._u = space.start_as(self.PRECISION)

    def leave(self, member: int) -> HyperStep | None:
        self._members.pop(member, None)
        self.team_size = max(1, self.team_size - 1)
        step = self._left(member)
        if self._assembled and not self._members:
            self.stopped = self.stopped or "lost"
        return step

    def _left(self, member: int) -> HyperStep | None:
        """What the loss of a member changes beside the team itself."""
        return None

    # Ask and tell ------------------------------------------------------------------------------------

    def ask(self) -> dict[int, WorkOrder]:
        if not self._assembled:
            if len(self._members) < self.team_size:
                return {}
            self._assembled = True
        idle = sorted(member for member, state in self._members.items() if state == "idle")
        orders = self._orders(idle) if self.stopped is None else self._finish_all(idle)
        for member in orders:
            self._members[member] = "busy"
        return orders

    @abstractmethod
    def _orders(self, idle: list[int]) -> dict[int, WorkOrder]:
        """Orders for some of the idle members."""

    def _finish_all(self, members: list[int]) -> dict[int, WorkOrder]:
        order = self._finish()
        return dict.fromkeys(members, order)

    @abstractmethod
    def _finish(self) -> Finish:
        """The order that ends a trainer."""

    def tell(self, member: int, report: Report) -> HyperStep | None:
        if isinstance(report, Diverged):
            return self.leave(member)
        if isinstance(report, Finished):
            self._members[member] = "finished"
            return None
        self._members[member] = "idle"
        return self._told(member, report)

    @abstractmethod
    def _told(self, member: int, report: Report) -> HyperStep | None:
        """Takes the report of an order that does not end its trainer."""

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, at a moment when no report is half told."""
        state = {name: getattr(self, name) for name in (*self._TEAM, *self.SAVED)}
        return copy.deepcopy(state) | {"space": self.space}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        saved = copy.deepcopy({name: value for name, value in state.items() if name != "space"})
        if state["space"] is not None:
            self._begin(state["space"])
        for name in (*self._TEAM, *self.SAVED):
            setattr(self, name, saved[name])


def check_team(size: object, group_size: int = 1, key: str = "team_size") -> None:
    """Refuses a number of trainers that is no team.

    Args:
        group_size: trainers that work in a group.
        key: how the setting is called.

    Raises:
        SettingError: with the key.
    """
    if not isinstance(size, Integral) or isinstance(size, bool):
        raise SettingError(key, f"must be a whole number, got {shown(size)}")
    if size < 1:
        raise SettingError(key, f"must be at least 1, got {size}")
    if int(size) > MOST_TRAINERS:
        raise SettingError(key, f"must be at most {MOST_TRAINERS}, got {size}")
    if size % group_size:
        raise SettingError(
            key, f"must be a multiple of {group_size}, because trainers work in groups of so many; got {size}"
        )
