"""Warm starts of a team: states that one trainer exports and others start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from selftune.methods import WorkOrder
from selftune.schedulers.team import Team
from selftune.schedulers.transport import Transport


class WarmStarts:
    """What stands for the states that a team's orders start from; the states themselves never come by here.

    A trainer that works answers nothing until it is done. So a state is asked for when the first orders that name
    it go out, to whomever, and before them: one of them may be for its own trainer.

    >>> WarmStarts().of(WorkOrder(start="1.candidate0")) is None
    True
    """

    def __init__(self) -> None:
        self._states: dict[tuple[int, str], Any] = {}

    def request(
        self, orders: Iterable[WorkOrder], team: Team, trials: Mapping[int, Any], transport: Transport
    ) -> None:
        """Asks for the states that these orders start from, where their trainers are still there."""
        names = dict.fromkeys(filter(None, map(_name, orders)))
        for member, key in names:
            if (member, key) not in self._states and team.present(member):
                self._states[member, key] = transport.export(trials[member], key)
        for member, key in self._states.keys() - names.keys():
            if not team.states.is_on_its_way(key, member):
                self.forget((member, key), transport)

    def of(self, order: WorkOrder) -> Any:
        """What goes along with an order; None if the state is the trainer's own, or gone."""
        name = _name(order)
        return None if name is None else self._states.get(name)

    def forget(self, name: tuple[int, str], transport: Transport) -> None:
        """Nobody starts from this state any more, or it was lost on its way."""
        if name in self._states:
            transport.forget(self._states.pop(name))


def _name(order: WorkOrder) -> tuple[int, str] | None:
    return None if order.source is None or order.start is None else (order.source, order.start)
