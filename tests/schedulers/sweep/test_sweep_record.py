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


def there(place):
    """The checkpoints in the folders of all drivers."""
    return sorted(path.relative_to(place).as_posix() for path in place.glob("run-*/trial-*/checkpoint_*"))


def test_checkpoints_of_earlier_drivers_go_once_no_record_needs_them(tmp_path):
    place = tmp_path / "ray"
    tune, record = driver(place, HyperbandSettings())
    for number in (3, 4, 5):
        tune.add(trial_of(number))
        start(tune, tune.trials[-1])
        for step in (10, 20):
            tune.report(tune.trials[-1], step, 0.5)
            saves(record, tune, tune.trials[-1], place / "run-0" / f"trial-{number}" / f"checkpoint_{step}", step)
    tune.stop_trial(tune.trials[0])
    record.on_trial_complete(0, tune.trials, tune.trials[0])
    record.write()
    first = there(place)
    for run in (1, 2):  # this one is killed, and goes on, twice
        left = read_sweep(place)
        tune, record = driver(place, HyperbandSettings(), left)
        tune.scheduler.choose_trial_to_run(tune)
        record.write()
        trial = tune.scheduler.going[4]
        for step in (20 + 10 * run, 30 + 10 * run):
            saves(record, tune, trial, place / f"run-{run}" / "trial-4" / f"checkpoint_{step}", step)
            record.write()
            needed = {*left.starts.values(), *left.saved[4]} if step == 20 + 10 * run else set()
            for one in needed:
                assert one.folder.is_dir(), "the record before still names it"
        record.write()
        kept = [f"run-0/trial-{number}/checkpoint_{step}" for number in (3, 5) for step in (10, 20)]
        assert [path for path in there(place) if path in first] == kept, "of the trials that have no newer ones"
        assert there(place)[len(kept) :] == [
            f"run-{run}/trial-4/checkpoint_{10 * run + step}" for step in (20, 30)
        ]
        assert read_sweep(place).starts[5].folder.is_dir()
    assert {path.name for path in place.glob("run-*")} == {"run-0", "run-2"}


def test_a_checkpoint_of_an_earlier_driver_stays_as_long_as_another_trial_starts_from_it(tmp_path):
    place = tmp_path / "ray"
    begun(place)
    tune, record = driver(place, HyperbandSettings(), read_sweep(place))
    tune.scheduler.choose_trial_to_run(tune)
    trial, other = tune.scheduler.going[4], tune.scheduler.going[5]
    copied = place / "run-0" / "trial-4" / "checkpoint_30"
    other.set_config({**other.config, "start": {"folder": str(copied), "step": 30}})
    for step in (40, 50):
        saves(record, tune, trial, place / "run-1" / "trial-4" / f"checkpoint_{step}", step)
        record.write()
    record.write()
    assert there(place) == ["run-0/trial-4/checkpoint_30", *(f"run-1/trial-4/checkpoint_{s}" for s in (40, 50))]
    assert read_sweep(place).starts[5] == SavedTrial(30, copied)
