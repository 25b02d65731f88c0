import pytest
from ray.tune.experiment import Trial
from sweep_fakes import Heard

from selftune.hyperparameters.distribution import Uniform
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.sweep.admission import Admission
from selftune.schedulers.sweep.records import TrialRecords
from selftune.schedulers.sweep.samples import samples_of
from selftune.schedulers.sweep.searcher import SweepSearcher
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.search.searchers import GridSearch

SPACE = SearchSpace((Swept("x", Uniform(0, 1)),))


def searcher_of(check=lambda values: None, **settings):
    settings = SearchSettings(metric="validation_loss", mode="min", report_every=10, **{"trials": 9, **settings})
    records = TrialRecords(settings, members=1, trial_steps=100)
    records.listener, records.check = Heard(), check
    return SweepSearcher(samples_of(SPACE, settings), records, Admission(None, "room")), records


def report(records, trial_id, step, loss, **more):
    records.reported(trial_id, {"training_step": step, "validation_loss": loss, **more})


def test_a_refused_sample_is_no_trial_and_another_is_drawn():
    searcher, records = searcher_of(lambda values: "x is too large" if values["x"] > 0.3 else None)
    drawn = [searcher.suggest(str(index)) for index in range(3)]
    refused = [trial for trial in records.listener.trials if trial.status == "refused"]
    assert all(sample["values"]["x"] <= 0.3 for sample in drawn)
    assert all(trial.values["x"] > 0.3 and trial.message == "x is too large" for trial in refused)
    numbers = [sample["number"] for sample in drawn] + [trial.number for trial in refused]
    assert sorted(numbers) == list(range(len(numbers)))
    assert refused


def test_a_searcher_that_finds_nothing_right_says_so():
    searcher, _ = searcher_of(lambda values: "momentum is for sgd only")
    with pytest.raises(SchedulerError, match=r"100 samples in a row .* momentum is for sgd only"):
        searcher.suggest("a")


def test_a_search_is_finished_when_the_grid_ends_or_the_budget_is_spent():
    searcher, records = searcher_of(searcher=GridSearch(2))
    assert [searcher.suggest(str(index)) is not None for index in range(2)] == [True, True]
    assert searcher.suggest("c") == "FINISHED"
    assert records.is_exhausted
    searcher, records = searcher_of(steps=10)
    sample = searcher.suggest("a")
    records.added("a", sample["number"])
    records.started("a", sample["values"], 0)
    report(records, "a", 10, 0.5)
    assert searcher.suggest("b") == "FINISHED"


def test_a_trial_is_drawn_while_the_budget_lasts_for_its_first_report_beside_those_that_train():
    searcher, records = searcher_of(trials=None, steps=25)
    sample = searcher.suggest("a")
    trial = Trial("Curve", config=sample, stub=True, trial_id="a")
    searcher._admission.added(trial, new=True)
    records.added("a", sample["number"])
    trial.status = Trial.RUNNING
    assert searcher.suggest("b") is not None
    records.started("a", sample["values"], 0)
    report(records, "a", 10, 0.5)
    assert searcher.suggest("c") is None
    searcher._admission.ended(trial)
    report(records, "a", 20, 0.5)
    assert searcher.suggest("d") == "FINISHED"


def test_the_searcher_learns_the_best_value_and_that_a_trial_failed(monkeypatch):
    searcher, records = searcher_of()
    told = []
    monkeypatch.setattr(
        searcher._samples, "tell", lambda number, value, failed=False: told.append((value, failed))
    )
    for trial_id in ("a", "b", "c"):
        sample = searcher.suggest(trial_id)
        records.added(trial_id, sample["number"])
        records.started(trial_id, sample["values"], 0)
    for step, loss in ((10, 0.5), (20, 0.2), (30, 0.4), (40, float("nan"))):
        report(records, "a", step, loss)
    searcher.on_trial_complete("a", {"validation_loss": float("nan")})
    report(records, "b", 10, float("nan"))
    searcher.on_trial_complete("b", {"validation_loss": float("nan")})
    searcher.on_trial_complete("c", error=True)
    assert told == [(0.2, False), (None, False), (None, True)]
