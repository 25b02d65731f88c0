"""How many training steps a trial's networks take: those of arms that a line search tries and drops, too."""

from __future__ import annotations

from collections.abc import Mapping

from selftune.listener import Listener
from selftune.methods import Report


class WorkDone(Listener):
    """Counts the training steps of all networks of a team, as their reports come.

    >>> from selftune.methods.reports import Trained
    >>> work = WorkDone()
    >>> for member in range(2):
    ...     work.reported(member, Trained(training_step=50, training_loss=1.0))
    >>> work.taken(), work.taken()
    (100, 0)
    """

    def __init__(self) -> None:
        self._steps = 0
        self._at: dict[int, int] = {}

    def goes_on_from(self, last: Mapping[int, Report]) -> None:
        """The team goes on from a saved state with these last reports; what led there is not counted."""
        self._steps = 0
        self._at = {member: getattr(report, "training_step", 0) for member, report in last.items()}

    def reported(self, member: int, report: Report) -> None:
        step = getattr(report, "training_step", 0)
        work = getattr(report, "work", None)  # of arms, which may start from an earlier state
        self._steps += max(0, step - self._at.get(member, 0)) if work is None else work
        self._at[member] = step

    def taken(self) -> int:
        """The training steps since this was asked last."""
        steps, self._steps = self._steps, 0
        return steps
