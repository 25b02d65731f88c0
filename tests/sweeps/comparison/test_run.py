"""A comparison runs what has not ended: it goes on after a stop; a sweep that fails does not end the others."""

from contextlib import nullcontext
from io import StringIO

import pytest
from rich.console import Console

from selftune.studies.runner import Runner
from selftune.studies.study_failed import StudyFailed
from selftune.sweeps.comparison import run as module
from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.folder import new_comparison_folder, open_comparison
from selftune.sweeps.comparison.outcome import Outcome
from selftune.sweeps.comparison.record import read_record
from selftune.sweeps.comparison.run import run_comparison

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {weight_decay: {strength: {start: 1.0e-4}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 100}
"""


@pytest.fixture
def folder(tmp_path):
    comparison = comparison_of(STUDY, ComparisonSettings(methods=("held", "tpe"), steps=400, seeds=2))
    return new_comparison_folder(comparison, tmp_path / "out")


@pytest.fixture
def sweeps(monkeypatch):
    """What runs in the place of sweeps: it does what ``faults`` says by the name of the folder."""

    class Sweeps:
        def __init__(self):
            self.ran, self.faults = [], {}

        def __call__(self, swept, place, console, *, mlflow, driving, within):
            assert (place / "study.yaml").read_text() == swept.text
            self.ran.append(place.name)
            if place.name in self.faults:
                raise self.faults[place.name]

    found = Sweeps()
    monkeypatch.setattr(module, "run_sweep", found)
    monkeypatch.setattr(module, "outcome_of", lambda swept, place, by_start: Outcome(steps=len(place.name)))
    monkeypatch.setattr(Runner, "ready", lambda self: nullcontext())
    return found


def run(folder):
    return run_comparison(open_comparison(folder), folder, Console(file=StringIO()), mlflow=False)


def test_every_method_and_seed_has_a_folder(folder, sweeps):
    record = run(folder)
    assert sweeps.ran == ["held-0", "tpe-0", "held-1", "tpe-1"] == list(record.outcomes)
    assert [one.steps for one in read_record(folder).outcomes.values()] == [6, 5, 6, 5]
    assert "4 of 4 sweeps have ended" in (folder / "comparison.md").read_text()


def test_it_goes_on_where_it_was_stopped(folder, sweeps):
    sweeps.faults["tpe-0"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert list(read_record(folder).outcomes) == ["held-0"]
    assert "missing tpe-0" in (folder / "comparison.md").read_text()
    sweeps.faults.clear()
    run(folder)
    assert sweeps.ran == ["held-0", "tpe-0", "tpe-0", "held-1", "tpe-1"]
    run(folder)
    assert len(sweeps.ran) == 5, "all of it has ended"


def test_a_sweep_that_fails_is_noted_and_tried_again(folder, sweeps):
    sweeps.faults["tpe-0"] = StudyFailed("no trainer is left")
    record = run(folder)
    assert (list(record.outcomes), dict(record.failures)) == (
        ["held-0", "held-1", "tpe-1"],
        {"tpe-0": "no trainer is left"},
    )
    sweeps.faults.clear()
    assert not run(folder).failures
