"""Warm starts of a team: states that one trainer exports and others start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from selftune.methods import WorkOrder
from selftune.schedulers.team import Team
from selftune.schedulers.transport import Transport

_KEPT = 2  # states per team: those of the current search and of the one before


class WarmStarts:
    """What stands for the states that a team's orders start from; the states themselves never come by here.

    A trainer that works answers nothing until it is done. So a state is asked for when the first orders that name
    it go out, to whomever, and before them: one of them may be for its own trainer.

    >>> WarmStarts().of(WorkOrder(warm_from=(0, "1.candidate0")), 1) is None
    True
    """

    def __init__(self) -> None:
        self._states: dict[tuple[int, str], Any] = {}

    def request(
        self, orders: Iterable[WorkOrder], team: Team, trials: Mapping[int, Any], transport: Transport
    ) -> None:
        """Asks for the states that these orders start from, where their trainers are still there."""
        for name in (order.warm_from for order in orders):
            if name is None or name in self._states or not team.present(name[0]) or team.size == 1:
                continue
            self._states[name] = transport.export(trials[name[0]], name[1])
            while len(self._states) > _KEPT:
                self.forget(next(iter(self._states)), transport)

    def of(self, order: WorkOrder, member: int) -> Any:
        """What goes along with a member's order; None if the state is the trainer's own, or gone."""
        if order.warm_from is None or order.warm_from[0] == member:
            return None
        return self._states.get(order.warm_from)

    def forget(self, name: tuple[int, str], transport: Transport) -> None:
        """Nobody starts from this state any more."""
        if name in self._states:
            transport.forget(self._states.pop(name))
