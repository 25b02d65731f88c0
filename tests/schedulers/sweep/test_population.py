import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from by_hand import memory, restored, start, trial_of, tune_of
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from selftune.hyperparameters.distribution import Integers, LogUniform, Uniform
from selftune.schedulers.sweep.population import bounds_of, coordinate, value_at
from selftune.schedulers.sweep.saved_trial import SavedTrial
from selftune.schedulers.sweep.trial_scheduler import _checkpoint
from selftune.search.trial_schedulers import Pb2Settings, PbtSettings

POPULATIONS = [PbtSettings(20), Pb2Settings(20)]


def population(settings, folder, check=lambda values: None):
    """Four trials after two intervals, the best of which has a checkpoint; the worst is about to report."""
    tune = tune_of(settings, trials=4)
    tune.scheduler.records.check = check
    tune.checkpoint = Checkpoint(str(folder))
    for number in range(4):
        tune.add(trial_of(number + 1))
    for trial in tune.trials:
        start(tune, trial)
    for step in (10, 20):
        for number, trial in enumerate(tune.trials):
            tune.report(trial, step, 0.1 * number + 1 / step)
    for step in (30, 40):
        for number, trial in enumerate(tune.trials[:3]):
            tune.report(trial, step, 0.1 * number + 1 / step)
    return tune


def worst_reports(tune):
    worst = tune.trials[3]
    tune.report(worst, 30, 0.4)
    tune.report(worst, 40, 0.4)
    return worst


@pytest.mark.parametrize("settings", POPULATIONS)
def test_the_worst_goes_on_from_the_best_with_changed_values_and_its_own_number(settings, tmp_path):
    tune = population(settings, tmp_path)
    spent = tune.scheduler.records.spent
    worst = worst_reports(tune)
    record = tune.scheduler.records.trials[4]
    assert (record.copied, record.status, record.training_step) == (1, "paused", 40)
    own, donor = record.best, tune.scheduler.records.trials[1].best
    assert own > donor  # its checkpoint, and so its best network, are still its own
    assert worst.config["number"] == 4
    assert worst.config["values"] == record.values
    assert record.values["x"] not in (0.1, 0.4)
    assert worst.checkpoint.path == str(tmp_path)
    assert tune.scheduler.records.spent == spent + 20
    tune.scheduler.records.started(worst.trial_id, worst.config["values"], 40)
    tune.report(worst, 50, 5.0)
    record = tune.scheduler.records.trials[4]
    assert (record.best, record.best_step) == (donor, 40)
    assert tune.scheduler.records.spent == spent + 30  # what it has copied was not trained


@pytest.mark.parametrize("settings", POPULATIONS)
def test_values_that_make_no_study_are_not_taken(settings, tmp_path):
    tune = population(settings, tmp_path, lambda values: "no" if values["x"] not in (0.1, 0.2, 0.3, 0.4) else None)
    worst = worst_reports(tune)
    assert tune.scheduler.records.trials[4].copied == 1
    assert worst.config["values"] == {"x": 0.1}


def test_a_checkpoint_that_is_not_kept_any_more_is_not_copied(tmp_path):
    tune = population(PbtSettings(20), tmp_path / "gone")
    worst = worst_reports(tune)
    assert tune.scheduler.records.trials[4].copied is None
    assert worst.status == Trial.RUNNING


@pytest.mark.parametrize("settings", POPULATIONS)
def test_a_population_is_the_same_after_a_restart(settings, tmp_path):
    tune = population(settings, tmp_path)
    again = restored(tune, settings)
    assert memory(again.scheduler) == memory(tune.scheduler)
    state = {trial.trial_id: one for trial, one in again.scheduler.inner._trial_state.items()}
    assert state["trial1"].last_checkpoint.path == str(tmp_path)
    assert (state["trial1"].last_perturbation_time, state["trial4"].last_perturbation_time) == (40, 20)
    assert state["trial4"].last_score == pytest.approx(-0.35)
    again.checkpoint, changed = tune.checkpoint, []
    for search in (tune, again):
        random.seed(1)
        np.random.seed(1)
        for trial in search.trials:
            trial.status = Trial.RUNNING
        changed.append(worst_reports(search).config["values"])
    assert changed[0] == changed[1]


def test_a_population_whose_trials_have_copied_each_other_is_the_same_after_a_restart(tmp_path):
    for settings in POPULATIONS:
        tune = population(settings, tmp_path)
        worst = worst_reports(tune)
        again = restored(tune, settings)
        assert memory(again.scheduler) == memory(tune.scheduler)
        assert again.scheduler.going[4].config["values"] == worst.config["values"]


def test_a_copy_of_what_an_earlier_driver_saved_starts_from_its_folder_and_reads_nothing_of_tunes(tmp_path):
    tune = restored(population(PbtSettings(20), tmp_path), PbtSettings(20))
    for trial in tune.trials:
        trial.status = Trial.RUNNING
        trial.storage = SimpleNamespace(experiment_fs_path=str(tmp_path / "run-1"))
    worst = worst_reports(tune)
    assert worst.config["start"] == {"folder": str(tmp_path), "step": 40}
    assert worst.latest_checkpoint_result is None
    assert tune.scheduler.records.trials[4].copied == 1


def test_of_a_trials_checkpoints_the_one_that_was_copied_from_counts_or_a_later_one(tmp_path):
    for step in (30, 40):
        (tmp_path / str(step)).mkdir()
    saved = [SavedTrial(step, tmp_path / str(step)) for step in (20, 30, 40)]
    found = [_checkpoint(saved, step) for step in (20, 30, 35, 50)]
    assert [None if one is None else Path(one.path).name for one in found] == ["30", "30", "40", None]


@pytest.mark.parametrize("distribution", [Uniform(-1, 2), LogUniform(1e-4, 0.1), Integers(2, 9)])
def test_coordinates_are_undone_and_stay_within_the_range(distribution):
    low, high = bounds_of(distribution)
    for fraction in (0.0, 0.3, 1.0):
        value = distribution.quantile(fraction)
        assert low <= coordinate(distribution, value) <= high
        assert math.isclose(value_at(distribution, coordinate(distribution, value)), value)
    assert value_at(distribution, high + 1) == distribution.quantile(1.0)
    assert value_at(distribution, low - 1) == distribution.quantile(0.0)
