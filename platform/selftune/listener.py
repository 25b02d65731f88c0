"""What the driver of a study tells the outside: tracking and display listen, the method never knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report


class Listener:
    """Hears everything that happens in a study, once and in order. Every method does nothing by default."""

    def started(self, space: Space, members: int) -> None:
        """The team is complete (again, after a resume)."""

    def reported(self, member: int, report: Report) -> None:
        """The method was told this report."""

    def hyper_step(self, step: HyperStep) -> None:
        """The method completed a hyper-step."""

    def lost(self, member: int, reason: str) -> None:
        """A trainer is gone for good."""

    def ended(self) -> None:
        """The method is done, or the driver stops."""


class Listeners(Listener):
    """Several listeners as one, called in the order given."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self.listeners = tuple(listeners)

    def started(self, space: Space, members: int) -> None:
        for listener in self.listeners:
            listener.started(space, members)

    def reported(self, member: int, report: Report) -> None:
        for listener in self.listeners:
            listener.reported(member, report)

    def hyper_step(self, step: HyperStep) -> None:
        for listener in self.listeners:
            listener.hyper_step(step)

    def lost(self, member: int, reason: str) -> None:
        for listener in self.listeners:
            listener.lost(member, reason)

    def ended(self) -> None:
        for listener in self.listeners:
            listener.ended()
