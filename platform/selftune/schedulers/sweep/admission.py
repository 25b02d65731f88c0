"""How many trials may train at a time, under schedulers that pause trials too."""

from __future__ import annotations

from typing import Any, Literal

from ray.tune.experiment import Trial

Draws = Literal["room", "brackets", "all"]
"""When samples are drawn: as there is room for another trial; a bracket at once, as soon as no trial waits for its
turn, because the trials of a bracket are compared with each other; or all at the beginning."""


class Admission:
    """Counts the trials that train, so that no more than ``limit`` do.

    Tune starts a trial that is pending as soon as it fits on the cluster, and one that is paused when the
    scheduler chooses it. So where a scheduler pauses trials, new ones wait paused.

    Args:
        limit: of trials at a time; None for as many as fit.
        draws: when samples are drawn.

    Attributes:
        is_filling: whether the scheduler's present bracket waits for more trials.
        fit: how many trials the cluster holds at a time.
        is_closed: whether no trial is to be drawn or started any more, because the run ends.
        is_rebuilding: whether the trials that an earlier driver began are not all there yet.
    """

    def __init__(self, limit: int | None, draws: Draws) -> None:
        self._limit = limit
        self._draws = draws
        self._live: dict[str, Any] = {}
        self._waiting: set[str] = set()
        self.is_filling = False
        self.fit = 1
        self.is_closed = False
        self.is_rebuilding = False

    @property
    def holds_back(self) -> bool:
        """Whether new trials wait paused until they are chosen."""
        return self._draws != "room"

    def added(self, trial: Any, new: bool) -> None:
        """A trial is there; a new one waits, where new ones do."""
        self._live[trial.trial_id] = trial
        if new and self.holds_back:
            self._waiting.add(trial.trial_id)
            trial.set_status(Trial.PAUSED)

    def started(self, trial: Any) -> None:
        self._waiting.discard(trial.trial_id)

    def ended(self, trial: Any) -> None:
        self._live.pop(trial.trial_id, None)
        self._waiting.discard(trial.trial_id)

    def has_room(self) -> bool:
        if self._limit is None:
            return True
        return self._count(Trial.PENDING, Trial.RUNNING) < self._limit

    def has_place(self) -> bool:
        """Whether the cluster has place for one more trial than those that train."""
        return self._count(Trial.RUNNING) < self._most

    def can_start(self) -> bool:
        """Whether one more trial can be started beside those that train or start."""
        return self._count(Trial.PENDING, Trial.RUNNING) < self._most

    def next_to_start(self) -> Any:
        """A trial that has waited since it was drawn, if one more can be started while another starts."""
        if not self.can_start():
            return None
        waiting = (trial for trial_id, trial in self._live.items() if trial_id in self._waiting)
        return next((trial for trial in waiting if trial.status == Trial.PAUSED), None)

    @property
    def _most(self) -> int:
        return self.fit if self._limit is None else min(self.fit, self._limit)

    def _count(self, *status: str) -> int:
        return len(self.trials(*status))

    def may_draw(self) -> bool:
        """Whether the searcher should be asked for one more sample."""
        if self.is_closed:
            return False
        if self._draws == "room":
            return self.has_room()
        return self._draws == "all" or self.is_filling or not self._waiting

    def all(self) -> list[Any]:
        """Trials that have not ended."""
        return list(self._live.values())

    def trials(self, *status: str) -> list[Any]:
        """Trials in one of these states of Tune's that have not ended."""
        return [trial for trial in self._live.values() if trial.status in status]

    @property
    def is_idle(self) -> bool:
        """Whether no trial is left that could train on."""
        return not self._live

    def waiting(self) -> list[Any]:
        """Trials that are not training."""
        return self.trials(Trial.PENDING, Trial.PAUSED)

    def unstarted(self) -> list[str]:
        """Ids of trials that have waited since they were drawn."""
        return sorted(self._waiting)
