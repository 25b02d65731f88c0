"""What the reports of a team say of its networks, as averages."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from selftune.methods.method import DIAGNOSTIC, Report

PERTURBED = "perturbed_"
"""Prefix of measures that were taken where the hyperparameters are perturbed, and the network with them."""
BEST, BEST_NETWORK = "best_", "best."
"""Prefixes of what the last report of a trainer says of its best network: of measures, and of tensors."""
_VALIDATION = ("validation_", f"{PERTURBED}validation_")


def average(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def measured(reports: Sequence[Report]) -> dict[str, float]:
    """What reports hold of validation data beside the loss: accuracy and the like, then diagnostics; averaged.

    Measures of a perturbed network keep their own names, the loss's included.

    >>> measured([Report("cycle", metrics={"validation_loss": 1.0, "validation_accuracy": 0.5, "work": 3.0})])
    {'validation_accuracy': 0.5}
    """
    metrics = reports[0].metrics
    names = [name for name in metrics if name.startswith(_VALIDATION) and name != "validation_loss"]
    names += [name for name in metrics if name.startswith(DIAGNOSTIC)]
    return {name.removeprefix(DIAGNOSTIC): average(r.metrics[name] for r in reports) for name in names}
