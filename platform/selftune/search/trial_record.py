"""What is known of one trial of a search, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from selftune.storage.state_tree import record

if TYPE_CHECKING:
    from selftune.listener import Place

TrialStatus = Literal["running", "paused", "finished", "stopped", "failed", "refused"]
"""``finished``: trained to its end; ``stopped``: by the scheduler, or because the search's budget was spent;
``refused``: its values do not fit together, so that it never started."""


@record
@dataclass(frozen=True)
class TrialRecord:
    """A trial as it stands: at its start, at each of its reports, and at its end.

    Args:
        number: from 0 on, in the order of drawing.
        values: what was drawn, by key of the study file; new ones after an exploit of population-based training.
        status: see ``TrialStatus``.
        training_step: training steps that its networks have behind them.
        spent: training steps of all its networks together that it cost so far, those of copied ones left out.
        seconds: that its trainers computed so far: of the processor, on a GPU of the clock.
        measures: of the plain network of the team's first member over the validation split, by name.
        best: the best value of the search's metric so far; None before the first report.
        best_step: training step at which it was met.
        copied: number of the trial whose state it goes on from, since the last report; None if it is its own.
        message: why it failed or was refused.
        time: seconds since the search began, over all of its runs.

    >>> TrialRecord(0, {"objective.hidden": [16]}).status
    'running'
    """

    number: int
    values: Mapping[str, Any]
    status: TrialStatus = "running"
    training_step: int = 0
    spent: int = 0
    seconds: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    copied: int | None = None
    message: str = ""
    time: float = 0.0

    @property
    def has_ended(self) -> bool:
        return self.status not in ("running", "paused")


class TrialsListener:
    """Hears what becomes of trials, in order. Every method does nothing by default."""

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        """The search begins, or goes on from a saved state, in which its trials stood like this.

        Whatever was heard beyond is void: it happens again, or not at all.
        """

    def heard(self, trial: TrialRecord) -> None:
        """A trial has started, reported, paused or ended."""

    def placed(self, number: int, place: Place) -> None:
        """A trial trains at this place; comes before what it has reported."""

    def departed(self, number: int, reason: str) -> None:
        """A trial has failed, and is started again from its last checkpoint."""

    def hung(self, number: int, reason: str) -> None:
        """A trial hangs, so that its processes are ended; ``departed`` follows, or that it has failed."""

    def ended(self) -> None:
        """The search is over, or the driver stops."""


class TrialsListeners(TrialsListener):
    """Several listeners as one, called in the order given."""

    def __init__(self, listeners: Iterable[TrialsListener]) -> None:
        self.listeners = tuple(listeners)

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        for listener in self.listeners:
            listener.resumed(trials)

    def heard(self, trial: TrialRecord) -> None:
        for listener in self.listeners:
            listener.heard(trial)

    def placed(self, number: int, place: Place) -> None:
        for listener in self.listeners:
            listener.placed(number, place)

    def departed(self, number: int, reason: str) -> None:
        for listener in self.listeners:
            listener.departed(number, reason)

    def hung(self, number: int, reason: str) -> None:
        for listener in self.listeners:
            listener.hung(number, reason)

    def ended(self) -> None:
        for listener in self.listeners:
            listener.ended()
