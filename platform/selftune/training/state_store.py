"""Which members of a team keep which states, so that an order goes on wherever its state still is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from selftune.methods import Report, WorkOrder
from selftune.methods.reports import Diverged, StateMissing

_COPIES = 2  # of states that travel: those of a team's current search, or cycle, and of the one before
_TRIES = 3  # to get a state from a member before it counts as one that does not have it


class _Exports(Protocol):
    def export_state(self, key: str) -> Any: ...


class StateStore:
    """What a runner knows of the states that trainers keep: orders say by their keys which ones they start from.

    A trainer that has done an order keeps, of the states that it had and the one it started from, those that the
    order still wants, and the state at the order's end.

    >>> store = StateStore()
    >>> store.did(0, WorkOrder(number=7, end="1.stay"), Report())
    >>> store.did(2, WorkOrder(number=4, start="1.stay", states=("1.stay",)), Report())
    >>> store.forget(0, after=6)  # it goes on from what it was after order 6
    >>> store.source("1.stay")
    2
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[int, int]] = {}  # key -> member -> number of the order that brought it
        self._copies: dict[str, int] = {}  # key -> member that a copy on its way is from
        self._failed: Counter[str] = Counter()  # copies of each that were lost on their way

    def did(self, member: int, order: WorkOrder, report: Report) -> None:
        """A member has reported an order."""
        if isinstance(report, StateMissing):
            self._lose(order.start, member)
            return
        if isinstance(report, Diverged):
            self.forget(member)
            return
        if order.start in order.states:
            self._held.setdefault(order.start, {}).setdefault(member, order.number)
        for key in self._held.keys() - order.states:
            self._lose(key, member)
        if order.end is not None:
            self._held.setdefault(order.end, {})[member] = order.number

    def forget(self, member: int, after: int | None = None) -> None:
        """A member is gone, or goes on from what it was ``after`` an order: later ones brought nothing."""
        for key in self.kept_by(member):
            if after is None or self._held[key][member] > after:
                self._lose(key, member)

    def _lose(self, key: str | None, member: int) -> None:
        if key in self._held:
            self._held[key].pop(member, None)
            if not self._held[key]:
                del self._held[key], self._failed[key]

    def holds(self, member: int, key: str | None) -> bool:
        return key in self._held and member in self._held[key]

    def holders(self, key: str) -> list[int]:
        """The members that keep a state."""
        return sorted(self._held.get(key, ()))

    def exists(self, key: str) -> bool:
        return key in self._held

    def kept_by(self, member: int) -> set[str]:
        """Keys of the states that a member keeps."""
        return {key for key, held in self._held.items() if member in held}

    def source(self, key: str, able: Callable[[int, int], bool] = lambda member, number: True) -> int | None:
        """The member that others have a state from; None if there is none.

        Args:
            able: whether a member can send what came with one of its orders, by the order's number. A copy that is
                on its way needs nobody any more.
        """
        if key not in self._copies:
            found = [member for member, number in self._held.get(key, {}).items() if able(member, number)]
            if not found:
                return None
            self._copies[key] = min(found)
            while len(self._copies) > _COPIES:
                del self._copies[next(iter(self._copies))]
        return self._copies[key]

    def is_on_its_way(self, key: str, member: int) -> bool:
        """Whether the copy that others get of a state is from a member."""
        return self._copies.get(key) == member

    def did_not_arrive(self, key: str, member: int) -> None:
        """A copy from a member was lost; it may have died meanwhile, or not have the state after all."""
        self._copies.pop(key, None)
        self._failed[key] += 1
        if self._failed[key] >= _TRIES:
            self._lose(key, member)

    def copies(self, orders: Mapping[int, WorkOrder], trainers: Mapping[int, _Exports]) -> dict[int, Any]:
        """The states that orders start from, of members that do not keep them; for trainers that answer at once.

        Args:
            orders: of members.
            trainers: all that there are, by member.
        """
        copied: dict[str, Any] = {}  # each once
        found = {}
        for member, order in orders.items():
            if order.start is not None and not self.holds(member, order.start):
                if order.start not in copied:
                    copied[order.start] = self._copy(order.start, trainers)
                found[member] = copied[order.start]
        return found

    def _copy(self, key: str, trainers: Mapping[int, _Exports]) -> Any:
        for source in self.holders(key):
            state = trainers[source].export_state(key) if source in trainers else None
            if state is not None:
                return state
            self._lose(key, source)
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"held": {key: dict(held) for key, held in self._held.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._held = {key: dict(held) for key, held in state["held"].items()}
