"""Drivers that die and go on from their records, with fake trials: what the record holds has to suffice."""

import random
import shutil

import pytest
from fake_tune import FakeTrial, FakeTune
from full_matrix import first_of
from ray_fakes import SPACE, Recorder, ToyMethod, Toys

from selftune.listener import Listener
from selftune.schedulers import BilevelScheduler, SchedulerError, run_on_ray, run_record, trainable
from selftune.schedulers.run_record import KIND, RunRecord, read_record, run_folders
from selftune.schedulers.trainable import KEPT_CHECKPOINTS
from selftune.storage.files import DamagedFile
from selftune.storage.kept_state import KeptState

pytestmark = pytest.mark.usefixtures("node", "local_trainables")


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Records are written whenever something is new, however long that takes."""
    monkeypatch.setattr(run_record, "_SHARE", 1.0)


def driver(place, recorder, seed=0, kill=0.0, toys=None):
    """A driver that goes on from what is in a folder; None if nothing is left to do."""
    place.mkdir(exist_ok=True)
    left = read_record(place, SPACE)
    scheduler = BilevelScheduler(ToyMethod(2), 2, listener=lambda team: recorder)
    scheduler.left = left
    members = range(2) if left is None else left.open_members
    record = RunRecord(place, scheduler, SPACE, left)
    trials = [FakeTrial(f"{record.run_name}-t{member}", {"member": member}) for member in members]
    if not trials:
        return None
    tune = FakeTune(scheduler, trainable(toys or Toys()), trials, seed, kill)
    tune.keep(record, place / record.run_name)
    return tune


def weights_of(place):
    members = read_record(place, SPACE).scheduler["teams"][0]["members"]
    return {member: entry.final.tensors["network.weights"].tolist() for member, entry in members.items()}


@pytest.mark.parametrize("seed", first_of(range(12), always=6))
def test_drivers_killed_one_after_the_other_get_to_the_end_of_the_undisturbed_run(seed, tmp_path, undisturbed):
    """Some die before their first checkpoint, or before they have checkpoints of all trainers."""
    place, life, draw = tmp_path / "ray", 0, random.Random(seed)
    recorder = Recorder()
    while (tune := driver(place, recorder, 100 * seed + life, kill=0.03)) is not None:
        for _ in range(draw.randrange(10, 90)):
            if all(trial.is_finished() for trial in tune.trials) and not tune.search_alg.left:
                break
            tune.step()
        life += 1
    assert life > 1
    expected, weights = undisturbed(ToyMethod(2))
    assert dict((step[1], step) for step in recorder.of("hyper_step")) == {
        step[1]: step for step in expected.of("hyper_step")
    }
    assert weights_of(place) == weights


def test_no_more_than_one_old_folder_is_kept(tmp_path):
    place = tmp_path / "ray"
    for life in range(3):
        tune = driver(place, Recorder(), life)
        while len(tune.record._checkpoints) < 2 or not all(map(tune.record._is_own, range(2))):
            tune.step()
        tune.step()
    assert [path.name for path in run_folders(place)] == ["run-2"]


@pytest.fixture
def place(tmp_path):
    """Records of a driver that was killed."""
    tune = driver(tmp_path / "ray", Recorder())
    while len(tune.record._checkpoints) < 2 or not KeptState(tmp_path / "ray", KIND, KIND).before.exists():
        tune.step()
    assert read_record(tmp_path / "ray", SPACE).open_members == [0, 1]
    return tmp_path / "ray"


def test_a_damaged_record_leaves_the_one_before_it(place, caplog):
    last = read_record(place, SPACE)
    kept = KeptState(place, KIND, KIND)
    kept.path.write_bytes(b"half of it")
    before = read_record(place, SPACE)
    assert before.run == last.run
    assert "going on from the record before it" in caplog.text
    kept.before.write_bytes(b"half of it")
    with pytest.raises(DamagedFile, match="to start the study from its beginning"):
        read_record(place, SPACE)


def test_a_moved_folder_goes_on(place, tmp_path, undisturbed):
    shutil.move(place, tmp_path / "moved")
    driver(tmp_path / "moved", Recorder()).run()
    assert weights_of(tmp_path / "moved") == undisturbed(ToyMethod(2))[1]


def test_there_may_be_nothing_and_another_version_is_refused(tmp_path):
    assert read_record(tmp_path, SPACE) is None
    (tmp_path / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    with pytest.raises(SchedulerError, match="was written by an earlier version of selftune"):
        read_record(tmp_path, SPACE)


def test_a_folder_with_another_run_is_refused(place):
    with pytest.raises(SchedulerError, match="holds a run already: resume it, or choose another folder"):
        run_on_ray(
            ToyMethod(2), Toys(), members=2, cpus=1, gpus=0, folder=place.parent, listener=Listener(), space=SPACE
        )


def test_a_trainer_may_die_again_and_again_as_long_as_it_gets_on(tmp_path, undisturbed):
    tune = driver(tmp_path / "ray", Recorder())
    first = tune.search_alg.left[0]
    first.max_failures = 1
    deaths, died_at = 0, None
    while not first.is_finished():
        tune.step()
        if first.checkpoints and first.checkpoints[-1] is not died_at and first.temporary_state.ray_actor:
            first.temporary_state.ray_actor.die()
            deaths, died_at = deaths + 1, first.checkpoints[-1]
    tune.run()
    assert deaths > 2
    assert weights_of(tmp_path / "ray") == undisturbed(ToyMethod(2))[1]


def test_a_record_takes_a_small_share_of_the_time_but_never_names_what_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "_SHARE", 1e-9)  # the first record's share is never paid back
    tune = driver(tmp_path / "ray", Recorder())
    records, write = [], RunRecord.write
    monkeypatch.setattr(RunRecord, "write", lambda self: records.append(dict(self._unrecorded)) or write(self))
    tune.run()
    assert all(max(saved.values()) == KEPT_CHECKPOINTS - 1 for saved in records[1:-1])
    assert len(records) > 3
    assert all(path.exists() for path in read_record(tmp_path / "ray", SPACE).checkpoints.values())
