"""What the reports of a team say of its networks, as averages."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from selftune.methods.reports import Trained

PERTURBED = "perturbed_"
"""Prefix of measures that were taken where the hyperparameters are perturbed, and the network with them."""
DIAGNOSTIC = "diagnostic/"
"""Prefix of the measures of a report that are diagnostics."""
_VALIDATION = ("validation_", f"{PERTURBED}validation_")


def average(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def measured(reports: Sequence[Trained]) -> dict[str, float]:
    """What reports hold of validation data beside the loss: accuracy and the like, then diagnostics; averaged.

    Measures of a perturbed network keep their own names, the loss's included. What only some reports hold is the
    average over these.

    >>> measures = {"validation_loss": 1.0, "validation_accuracy": 0.5}
    >>> measured([Trained(training_step=5, training_loss=0.8, measures=measures)])
    {'validation_accuracy': 0.5}
    """
    metrics = list(dict.fromkeys(name for report in reports for name in report.measures))
    names = [name for name in metrics if name.startswith(_VALIDATION) and name != "validation_loss"]
    names += [name for name in metrics if name.startswith(DIAGNOSTIC)]
    found = {name: [r.measures[name] for r in reports if name in r.measures] for name in names}
    return {name.removeprefix(DIAGNOSTIC): average(values) for name, values in found.items()}
