"""What came of a cell, read from the folder of its sweep; the networks that it hands over are measured."""

from __future__ import annotations

from pathlib import Path

from selftune.search import TrialRecord
from selftune.sweeps.comparison.outcome import Outcome
from selftune.sweeps.swept_study import SweptStudy
from selftune.tracking.trials import Trials
from selftune.tracking.trials_file import read_trials


def outcome_of(swept: SweptStudy, folder: Path, by_start: bool) -> Outcome:
    """What the folder of a sweep that has ended says.

    Args:
        swept: the sweep.
        folder: its output folder.
        by_start: whether the best network of every trial is measured.
    """
    trials = read_trials(folder)
    winner, best = trials.winner, trials.best_so_far()
    return Outcome(
        winner=None if winner is None else winner.number,
        values={} if winner is None else dict(winner.values),
        measures={} if winner is None else _measured(swept, folder, winner),
        spent=best.spent.tolist(),
        computed=best.seconds.tolist(),
        best=best.value.tolist(),
        steps=trials.spent,
        seconds=sum(trial.seconds for trial in trials.last.values()),
        clock=max((record.time for record in trials.records), default=0.0),
        trials=trials.counts,
        by_start=[_measured(swept, folder, one) for one in _with_networks(trials)] if by_start else (),
    )


def _with_networks(trials: Trials) -> list[TrialRecord]:
    return [trial for trial in trials.last.values() if trial.best is not None and trial.status != "failed"]


def _measured(swept: SweptStudy, folder: Path, trial: TrialRecord) -> dict[str, float]:
    """Validation and test measures of a trial's best network, over whole splits."""
    from selftune.schedulers.sweep import best_network

    strategy = swept.sample(trial.values).strategy.as_network(folder)
    return dict(strategy.trainers()(0).evaluated(strategy.built_of(best_network(folder, trial.number))))
