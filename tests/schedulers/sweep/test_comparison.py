"""Methods compared on a cluster, each a sweep: what they hand over is measured, and pays with its steps."""

from io import StringIO

import pytest
from rich.console import Console

from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.folder import new_comparison_folder, open_comparison
from selftune.sweeps.comparison.record import read_record
from selftune.sweeps.comparison.run import run_comparison

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}, weight_decay: {strength: {start: 1.0e-4}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 40}
"""


def compared(folder, **settings):
    """The record of a comparison that was run, and run again."""
    made = new_comparison_folder(comparison_of(STUDY, ComparisonSettings(seeds=1, **settings)), folder)
    console = Console(file=StringIO())
    run_comparison(open_comparison(made), made, console, mlflow=False)
    ended = {path: path.stat().st_mtime_ns for path in made.glob("*/summary.json")}
    record = run_comparison(open_comparison(made), made, console, mlflow=False)
    assert all(path.stat().st_mtime_ns == time for path, time in ended.items()), "what has ended is left alone"
    assert read_record(made).outcomes.keys() == record.outcomes.keys()
    assert not record.failures
    return record


def check(outcome):
    assert outcome.best[-1] == min(outcome.best)
    assert outcome.measures["validation_loss"] == pytest.approx(outcome.best[-1], rel=1e-4)
    assert outcome.measures["test_accuracy"] > 0.1


def test_a_method_is_run_on_a_cluster_and_what_it_hands_over_is_measured(cluster, tmp_path):
    [outcome] = compared(tmp_path / "out", methods=("self_tuning",), steps=80).outcomes.values()
    assert (outcome.steps, dict(outcome.trials)) == (80, {"finished": 2})
    assert outcome.values["regularizers.dropout.rate.start"] == 0.1 or outcome.winner == 1
    check(outcome)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_methods_are_compared_from_random_starts_too(cluster, tmp_path):
    record = compared(tmp_path / "out", methods=("held", "asha", "pbt", "self_tuning"), steps=160, starts=2)
    outcomes = record.outcomes
    assert [outcomes[f"{name}-0"].steps for name in ("held", "pbt", "self_tuning")] == [40, 160, 160]
    assert outcomes["asha-0"].steps <= 160
    for method in record.settings.methods:
        check(outcomes[f"{method}-0"])
    assert [len(outcomes[f"{method}-starts"].by_start) for method in ("self_tuning", "random")] == [2, 2]
