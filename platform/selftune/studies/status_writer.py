"""Writes how far a study is into its folder, once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.listener import Listener, Place
from selftune.methods.best_step import BestStep
from selftune.methods.reports import Diverged, Finished
from selftune.studies.pace import Pace
from selftune.studies.status import Best, Faults, MemberStatus, Status, TeamStatus, read_status, write_status

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report
    from selftune.studies.progress import Progress

EVERY = 1.0
"""Seconds between two writings, at least."""


class StatusWriter(Listener):
    """Writes ``status.json`` into the folder of a study.

    Between two writings an event costs an entry in a table and a look at the clock.

    Args:
        folder: of the study.
        name: of the study.
        phase: what runs, in words.
        progress: knows how far it is; nobody reads its lines.
        best: knows the metric; the best hyper-step is kept here.
        clock: seconds.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        phase: str,
        progress: Progress,
        best: BestStep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._progress, self._best, self._clock = folder, progress, best, clock
        before = read_status(folder)
        faults = Faults() if before is None else before.faults
        self._status = Status(name, phase, faults=faults, teams=[TeamStatus(0)])
        if before is not None and before.best is not None:  # what a resumed study had met is met
            self._status.best = before.best
            best.number, best.value = before.best.hyper_step or 0, before.best.value
        self._members: dict[int, MemberStatus] = {}
        self._pace = Pace()
        self._next = -math.inf

    def arrived(self, member: int, place: Place) -> None:
        one = self._members.setdefault(member, MemberStatus(member))
        one.host, one.process, one.state, one.message = place.host, place.process, "training", ""
        self._write()

    def departed(self, member: int, reason: str) -> None:
        one = self._members.setdefault(member, MemberStatus(member))
        one.state, one.message = "restarting", reason
        self._status.faults.restarts += 1
        self._write()

    def left_out(self, member: int, reason: str) -> None:
        one = self._members.setdefault(member, MemberStatus(member))
        one.state, one.message = "waiting", reason
        self._write()

    def hung(self, member: int, reason: str) -> None:
        self._status.faults.hung += 1

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        if any(orders.values()):
            self._status.faults.resumed += 1
        self._status.hyper_steps = hyper_steps
        self._progress.resumed(orders, hyper_steps)

    def started(self, space: Space, members: int) -> None:
        self._progress.started(space, members)
        self._write()

    def reported(self, member: int, report: Report) -> None:
        self._progress.reported(member, report)
        one = self._members.setdefault(member, MemberStatus(member))
        one.training_step = int(report.metrics.get("training_step", one.training_step))
        if isinstance(report, Finished):
            one.state = "finished"
        elif isinstance(report, Diverged):
            one.state = "diverged"  # and is lost in a moment
        self._due()

    def hyper_step(self, step: HyperStep) -> None:
        self._progress.hyper_step(step)
        self._status.hyper_steps = step.number + 1
        self._status.faults.outvoted += len(step.faults)
        for member, one in self._members.items():
            if one.state == "training":
                one.message = f"outvoted: {step.faults[member].reason}" if member in step.faults else ""
        if self._best.see(step):
            self._status.best = Best(self._best.metric, self._best.value, hyper_step=step.number)
        self._due()

    def lost(self, member: int, reason: str) -> None:
        one = self._members.setdefault(member, MemberStatus(member))
        if one.state == "diverged":
            self._status.faults.diverged += 1
        else:
            self._status.faults.lost += 1
        one.state, one.message = "lost", reason
        self._write()

    def ended(self) -> None:
        self._write()

    def _due(self) -> None:
        if self._clock() >= self._next:
            self._write()

    def _write(self) -> None:
        status, now = self._status, self._clock()
        self._next = now + EVERY
        status.teams[0].members = [self._members[member] for member in sorted(self._members)]
        status.training_steps = sum(one.training_step for one in status.teams[0].members)
        self._pace.at(now, status.training_steps, status.hyper_steps)
        if self._pace.rates is not None:
            status.training_steps_per_second = self._pace.rates[0]
            status.hyper_steps_per_minute = 60 * self._pace.rates[1]
        status.progress, status.share = self._progress.progress(), self._progress.share()
        status.seconds_left = self._progress.seconds_left()
        write_status(self._folder, status)
