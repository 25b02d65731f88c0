"""Writes how far a sweep is into its folder, once a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.search import SearchSettings, TrialRecord
from selftune.studies.pace import Pace
from selftune.studies.status import Best, Faults, MemberStatus, Status, TeamStatus, read_status, write_status
from selftune.studies.status_writer import EVERY
from selftune.sweeps.progress import SweepProgress

if TYPE_CHECKING:
    from selftune.listener import Place


class SweepStatusWriter(SweepProgress):
    """Writes ``status.json`` into the folder of a sweep.

    A trial is shown with the trainer of its first member, the one that Ray Tune knows of.

    Args:
        folder: of the sweep.
        name: of the study.
        settings, trial_steps, clock: as of ``SweepProgress``.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: SearchSettings,
        trial_steps: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, trial_steps, clock)
        before = read_status(folder)
        self._folder = folder
        self._status = Status(name, "sweep", faults=Faults() if before is None else before.faults)
        self._members: dict[int, MemberStatus] = {}
        self._pace = Pace()
        self._next = -math.inf

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        super().resumed(trials)
        if trials:
            self._status.faults.resumed += 1
        self._write()

    def placed(self, number: int, place: Place) -> None:
        member = self._members.setdefault(number, MemberStatus(0))
        member.host, member.process, member.state, member.message = place.host, place.process, "training", ""

    def departed(self, number: int, reason: str) -> None:
        member = self._members.setdefault(number, MemberStatus(0))
        member.state, member.message = "restarting", reason
        self._status.faults.restarts += 1
        self._write()

    def hung(self, number: int, reason: str) -> None:
        self._status.faults.hung += 1

    def heard(self, trial: TrialRecord) -> None:
        before = self._trials.get(trial.number)
        super().heard(trial)
        if trial.has_ended:
            self._members.pop(trial.number, None)
        if trial.status == "failed":
            diverged = before is not None and bool(before.message)  # its last report said so
            self._status.faults.diverged += diverged
            self._status.faults.lost += not diverged
        if self._clock() >= self._next:
            self._write()

    def ended(self) -> None:
        self._write()

    def _write(self) -> None:
        status, now = self._status, self._clock()
        self._next = now + EVERY
        status.teams = [
            TeamStatus(trial.number, trial.status, [self._member(trial)])
            for _, trial in sorted(self._trials.items())
            if not trial.has_ended
        ]
        status.trials = dict(self.counts())
        status.training_steps = self._spent
        self._pace.at(now, self._spent)
        if self._pace.rates is not None:
            status.training_steps_per_second = self._pace.rates[0]
        status.progress, status.share, status.seconds_left = self.progress(), self.share(), self.seconds_left()
        for best in self.leading(1):
            assert best.best is not None
            status.best = Best(self._settings.metric, best.best, trial=best.number, training_step=best.best_step)
        write_status(self._folder, status)

    def _member(self, trial: TrialRecord) -> MemberStatus:
        member = self._members.setdefault(trial.number, MemberStatus(0))
        member.training_step = trial.training_step
        if trial.status == "paused":
            member.state = "paused"
        return member
