"""The record of a sweep, written and read without a cluster."""

import pytest
from by_hand import start, trial_of, tune_of
from ray.tune import Checkpoint
from ray.tune.experiment import Trial

from selftune.schedulers import SchedulerError
from selftune.schedulers.sweep.history import History
from selftune.schedulers.sweep.saved_trial import SavedTrial
from selftune.schedulers.sweep.sweep_record import SweepRecord, read_sweep
from selftune.search.trial_schedulers import AshaSettings, HyperbandSettings
from selftune.storage.files import DamagedFile


class Result:
    """A checkpoint as Tune has it, with the result of before."""

    def __init__(self, folder, step):
        folder.mkdir(parents=True)
        self.checkpoint, self.metrics = Checkpoint(str(folder)), {"training_step": step}


def saves(record, tune, trial, folder, step):
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = Result(folder, step)
    record.on_trial_save(0, tune.trials, trial)


def driver(place, scheduler, left=None):
    """A driver with its record and its history."""
    tune = tune_of(scheduler)
    if left is not None:
        tune.scheduler.records.load_state_dict(left.records)
        tune.scheduler.records.settle(left.scheduler["going"])
    place.mkdir(exist_ok=True)
    record = SweepRecord(place, tune.scheduler, tune.scheduler.records, kept=2, state=left)
    record.clear()
    tune.scheduler.history = History(record.history, () if left is None else left.events)
    if left is not None:
        tune.scheduler.go_on(left)
        for config in tune.scheduler.configs():
            trial = trial_of(config["number"], f"again{config['number']}")
            trial.set_config(config)
            tune.add(trial)
    return tune, record


def begun(place):
    """Three trials: one has ended, one trains and has checkpoints, and one is paused."""
    tune, record = driver(place, HyperbandSettings())
    for number in range(3, 6):
        tune.add(trial_of(number))
        start(tune, tune.trials[-1])
    ended, trains, paused = tune.trials
    for step in (10, 20, 30):
        tune.report(trains, step, 0.5)
        saves(record, tune, trains, place / "run-0" / "trial-4" / f"checkpoint_{step}", step)
    paused.status = Trial.PAUSED
    tune.stop_trial(ended)
    record.on_trial_complete(0, tune.trials, ended)
    record.write()
    return tune


def test_a_record_holds_the_trials_that_go_on_with_their_checkpoints_and_all_that_happened(tmp_path):
    place = tmp_path / "ray"
    tune = begun(place)
    left = read_sweep(place)
    assert left.scheduler["going"].keys() == {4, 5}
    assert left.scheduler["paused"] == {5}
    assert left.starts == {4: SavedTrial(30, place / "run-0" / "trial-4" / "checkpoint_30")}
    assert [saved.step for saved in left.saved[4]] == [20, 30]
    assert len(left.events) == len(tune.scheduler.history) == left.scheduler["history"]

    tune.report(tune.trials[1], 40, 0.5)  # after the record
    assert read_sweep(place).events == left.events


def test_the_next_driver_goes_on_from_it_and_so_does_the_one_after_it(tmp_path):
    place = tmp_path / "ray"
    begun(place)
    for run in (1, 2, 3):
        tune, record = driver(place, HyperbandSettings(), read_sweep(place))
        record.write()
        assert read_sweep(place).run == run - 1, "as long as trials are missing, the record before counts"
        assert tune.scheduler.choose_trial_to_run(tune).config["number"] == 4
        record.write()
        left = read_sweep(place)
        assert left.run == run
        assert left.starts[4].step == 30
        assert left.scheduler["paused"] == {5}
        assert {number: trial.status for number, trial in tune.scheduler.records.trials.items()} == {
            3: "stopped",
            4: "running",
            5: "running",
        }
    assert sorted(path.name for path in place.glob("history-*")) == [
        "history-1.frames",
        "history-2.frames",
        "history-3.frames",
    ]


def test_where_the_last_record_is_damaged_the_one_before_counts(tmp_path):
    place = tmp_path / "ray"
    tune = begun(place)
    before = read_sweep(place)
    tune.report(tune.trials[1], 40, 0.5)
    SweepRecord(place, tune.scheduler, tune.scheduler.records, kept=2).write()
    (place / "record.safetensors").write_bytes(b"half of")
    assert read_sweep(place).events == before.events
    (place / "history-0.frames").unlink()
    with pytest.raises(DamagedFile, match=r"history-0\.frames: is missing, or has lost its end"):
        read_sweep(place)


def test_a_folder_without_a_record_begins_anew_and_one_of_an_earlier_version_is_refused(tmp_path):
    assert read_sweep(tmp_path) is None
    (tmp_path / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    with pytest.raises(SchedulerError, match="was written by an earlier version of selftune"):
        read_sweep(tmp_path)


def test_trials_that_trained_start_first_and_asha_knows_their_rungs(tmp_path):
    tune, record = driver(tmp_path / "ray", AshaSettings(10, reduction_factor=2))
    for number in range(2):
        tune.add(trial_of(number))
        start(tune, tune.trials[-1])
        tune.report(tune.trials[-1], 10, 0.1)
    record.write()
    again, _ = driver(tmp_path / "ray", AshaSettings(10, reduction_factor=2), read_sweep(tmp_path / "ray"))
    again.scheduler.admission.fit = 2
    chosen = again.scheduler.choose_trial_to_run(again)
    start(again, chosen)
    assert chosen.config["number"] == 0
    assert again.scheduler.choose_trial_to_run(again).config["number"] == 1
    late = trial_of(7)
    again.add(late)
    start(again, late)
    assert again.report(late, 10, 0.5) == "STOP"
