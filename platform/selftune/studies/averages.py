"""Measures of the networks that came out, averaged, and how far single ones are from the average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import stdev

from selftune.methods import Report


def mean_metrics(reports: Mapping[int, Report]) -> dict[str, float]:
    """Validation and test measures by the last reports of trainers, averaged."""
    return {name: sum(values) / len(values) for name, values in _measured(reports)}


def spread_metrics(reports: Mapping[int, Report]) -> dict[str, float]:
    """Their standard deviations from network to network; empty where there is one network only.

    >>> from selftune.methods.reports import TrainingFinished
    >>> losses = enumerate((1.0, 2.0, 3.0))
    >>> reports = {seed: TrainingFinished(training_step=9, measures={"test_loss": loss}) for seed, loss in losses}
    >>> mean_metrics(reports), spread_metrics(reports), spread_metrics({0: reports[0]})
    ({'test_loss': 2.0}, {'test_loss': 1.0}, {})
    """
    if len(reports) < 2:
        return {}
    return {name: stdev(values) for name, values in _measured(reports)}


def _measured(reports: Mapping[int, Report]) -> Iterator[tuple[str, Sequence[float]]]:
    finished = [report.metrics for report in reports.values()]
    for name in finished[0]:
        if name.startswith(("validation_", "test_")):
            yield name, [metrics[name] for metrics in finished]
