"""What the driver of a study tells the outside: tracking and display listen, the method never knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report


class Listener:
    """Hears everything that happens in a study, once and in order. Every method does nothing by default."""

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        """The study begins, or goes on from a saved state; comes before ``started``.

        The first ``orders[member]`` reports of each trainer that goes on are behind it, and the first
        ``hyper_steps`` hyper-steps. Whatever was heard beyond is void: it happens again, or not at all.
        """

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


class Remembered(Listener):
    """Remembers every hyper-step, in order, as ``steps``."""

    def __init__(self) -> None:
        self.steps: list[HyperStep] = []

    def hyper_step(self, step: HyperStep) -> None:
        self.steps.append(step)


class Listeners(Listener):
    """Several listeners as one, called in the order given."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self.listeners = tuple(listeners)

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        for listener in self.listeners:
            listener.resumed(orders, hyper_steps)

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
