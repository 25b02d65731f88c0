"""Which members of a team hold which states of the path, so that work goes on where a state still exists."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from selftune.storage.state_tree import record


@record
@dataclass
class _Held:
    training_step: int
    members: list[int] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)


@record
@dataclass
class StateLocations:
    """States by key, each with the training step at which it stands and the members that keep it.

    >>> locations = StateLocations()
    >>> locations.add("1.stay", 50, 0)
    >>> locations.add("1.stay", 50, 2)
    >>> locations.leave(0)
    >>> locations.source("1.stay")
    2
    """

    states: dict[str, _Held] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.states)

    def add(self, key: str, training_step: int, member: int) -> None:
        held = self.states.setdefault(key, _Held(training_step))
        if member not in held.members:
            held.members.append(member)

    def holds(self, member: int, key: str) -> bool:
        return key in self.states and member in self.states[key].members

    def exists(self, key: str) -> bool:
        return key in self.states and bool(self.states[key].members)

    def training_step(self, key: str) -> int:
        return self.states[key].training_step

    def source(self, key: str) -> int | None:
        """A member that can send the state; None if nobody holds it, or can send it under this name."""
        held = self.states.get(key, _Held(0))
        return min((member for member in held.members if member not in held.withheld), default=None)

    def furthest(self) -> str | None:
        """The state that exists and stands at the latest training step, among equals the latest added."""
        there = [key for key in self.states if self.exists(key)]
        return max(reversed(there), key=self.training_step, default=None)

    def retain(self, keys: Collection[str]) -> None:
        """Nobody will start from the others any more."""
        self.states = {key: held for key, held in self.states.items() if key in keys}

    def lose(self, key: str, member: int) -> None:
        """A member does not keep the state after all."""
        if self.holds(member, key):
            self.states[key].members.remove(member)

    def leave(self, member: int) -> None:
        """A member is gone, and what it kept."""
        for key in self.states:
            self.lose(key, member)

    def withhold(self, key: str, member: int) -> None:
        """The state did not arrive from a member, which may hold it all the same: it sends it no more."""
        if key in self.states:
            self.states[key].withheld.append(member)
