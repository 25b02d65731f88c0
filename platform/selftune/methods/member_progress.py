"""How far a member of a team is, whatever the others do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from selftune.methods.measures import DIAGNOSTIC
from selftune.methods.reports import Trained
from selftune.methods.values import Values
from selftune.methods.work_orders import Train
from selftune.storage.state_tree import record


@record
@dataclass
class MemberProgress:
    """What one trainer was given to do, and what it said last.

    Attributes:
        training_step: training steps that it was given, its current order's among them.
        hypergradients: how many it was asked for.
        seconds: its time: what it computed, and what it waited for others.
        values: of its last order.
        last: its last report with a hypergradient, without that and without diagnostics.

    >>> MemberProgress(training_step=600).training_step
    600
    """

    training_step: int = 0
    hypergradients: int = 0
    seconds: float = 0.0
    values: Values | None = None
    last: Trained | None = None

    def give(self, order: Train) -> None:
        """It gets an order."""
        self.training_step += order.steps
        self.hypergradients += order.hypergradient
        self.values = order.values

    def hear(self, report: Trained) -> None:
        """It has reported."""
        self.seconds += report.seconds
        if report.hypergradient is None:
            return
        loss = report.training_loss
        if math.isnan(loss) and self.last is not None:  # there was no training; the last loss is still true
            loss = self.last.training_loss
        measures = {name: value for name, value in report.measures.items() if not name.startswith(DIAGNOSTIC)}
        self.last = replace(report, training_loss=loss, measures=measures, hypergradient=None)
