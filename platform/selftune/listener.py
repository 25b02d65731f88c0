"""What the driver of a study tells the outside: tracking and display listen, the method never knows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report


@dataclass(frozen=True)
class Place:
    """Where a trainer runs: the machine, and the number of the process there."""

    host: str
    process: int

    @classmethod
    def here(cls) -> Place:
        """This process."""
        return cls(socket.gethostname(), os.getpid())


class Listener:
    """Hears everything that happens in a study, once and in order. Every method does nothing by default."""

    def arrived(self, member: int, place: Place) -> None:
        """A trainer is there: for the first time in this run, or again after ``departed``."""

    def departed(self, member: int, reason: str) -> None:
        """A trainer has failed, and is started again."""

    def left_out(self, member: int, reason: str) -> None:
        """A trainer is not waited for any more; ``arrived`` follows if it comes back, else ``lost``."""

    def hung(self, member: int, reason: str) -> None:
        """A trainer hangs, so that its process is ended; ``departed`` or ``lost`` follows."""

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        """The study begins, or goes on from a saved state; comes before ``started``, and after all have arrived.

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

    def arrived(self, member: int, place: Place) -> None:
        for listener in self.listeners:
            listener.arrived(member, place)

    def departed(self, member: int, reason: str) -> None:
        for listener in self.listeners:
            listener.departed(member, reason)

    def left_out(self, member: int, reason: str) -> None:
        for listener in self.listeners:
            listener.left_out(member, reason)

    def hung(self, member: int, reason: str) -> None:
        for listener in self.listeners:
            listener.hung(member, reason)

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
