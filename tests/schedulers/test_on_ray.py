"""With a real cluster: what the fake controller cannot vouch for. Every new version of Ray has to pass."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import network_fakes
import pytest
from full_matrix import first_of
from network_fakes import METHODS, Networks
from ray import tune
from ray.tune.experiment import Trial
from ray_fakes import SPACE, HeavyToys, Recorder, ToyMethod, Toys
from smooth_fakes import PROBLEM, SETTINGS, STEPS, Mortals, alone, close, iterates, method, u_of

from selftune.errors import SettingError, Stopped
from selftune.methods import Budget, Penalty, PenaltySettings
from selftune.schedulers import (
    BilevelScheduler,
    InexactLineSearchScheduler,
    SchedulerError,
    SelfTuningScheduler,
    ray_internals,
    run_on_ray,
    trainable,
)
from selftune.training.smooth_trainer import SmoothTrainerFactory

pytestmark = pytest.mark.usefixtures("cluster")


def run(folder, method, toys=None, recorder=None, **settings):
    recorder = recorder or Recorder()
    reports = run_on_ray(
        method,
        toys or Toys(),
        members=method.team_size,
        cpus=1,
        gpus=settings.pop("gpus", 0),
        folder=folder,
        listener=recorder,
        space=SPACE,
        **settings,
    )
    return {m: report.tensors["network.weights"].tolist() for m, report in reports.items()}, recorder


def test_trajectory_is_that_of_a_run_in_process(tmp_path, undisturbed):
    method = ToyMethod(1)
    weights, recorder = run(tmp_path, method)
    expected, expected_weights = undisturbed(method)
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
    assert weights == expected_weights


@pytest.mark.full
def test_a_team_without_room_for_all_starts_with_those_that_fit(tmp_path, undisturbed):
    weights, recorder = run(tmp_path, ToyMethod(3), at_least=2)
    expected, expected_weights = undisturbed(ToyMethod(2))
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert weights == expected_weights
    assert [event[1] for event in recorder.of("lost")] == [2]


@pytest.mark.full
def test_a_killed_worker_gets_its_place_before_a_newcomer_that_waits_for_one(tmp_path, monkeypatch):
    """With patience the third one asks for a place that only a larger cluster has."""
    withdraw, recalled = ray_internals.withdraw, []
    monkeypatch.setattr(ray_internals, "withdraw", lambda *one: recalled.append(one) or withdraw(*one))
    method, marker = ToyMethod(3), tmp_path / "killed"
    toys = Toys(dies=(1, 21), marker=marker, seconds=0.1)
    _, recorder = run(tmp_path / "run", method, toys, at_least=2, patience=600.0)
    assert marker.exists()
    assert recalled
    assert recorder.arrivals == [0, 1, 1] or recorder.arrivals == [1, 0, 1]
    assert [event[1] for event in recorder.of("lost")] == [2]
    assert not recorder.of("left_out")
    assert len(recorder.of("hyper_step")) == 18


@pytest.mark.parametrize("transport", first_of(["mailbox", "direct"]))
def test_a_killed_worker_changes_nothing(transport, tmp_path, undisturbed):
    method = ToyMethod(2, checkpoint_every=1)  # orders meet checkpoints that are being saved
    marker = tmp_path / "killed"
    weights, recorder = run(tmp_path / "run", method, Toys(dies=(1, 31), marker=marker), transport=transport)
    expected, expected_weights = undisturbed(method)
    assert marker.exists()
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
    assert weights == expected_weights


@pytest.mark.full
@pytest.mark.parametrize("how", first_of(["stops", "blocks"]))
@pytest.mark.parametrize("transport", first_of(["direct", "mailbox"]))
def test_a_worker_that_hangs_is_replaced_and_changes_nothing(transport, how, tmp_path, undisturbed):
    method, marker = ToyMethod(1), tmp_path / "hung"
    toys = Toys(**{how: (0, 31)}, marker=marker)
    weights, recorder = run(tmp_path / "run", method, toys, transport=transport, hang_after=2.0)
    expected, expected_weights = undisturbed(method)
    assert recorder.hangs == [(0, "hangs: order 14 takes longer than 2 seconds")]
    assert recorder.departures == recorder.hangs
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
    assert weights == expected_weights


@pytest.mark.full
def test_data_beyond_the_object_store_change_nothing(tmp_path, undisturbed):
    """A store of 100 MiB is full with them: Ray puts on the disk what finds no room."""
    method, toys = ToyMethod(1), HeavyToys(data=os.urandom(150 * 2**20))
    weights, recorder = run(tmp_path, method, toys)
    expected, expected_weights = undisturbed(method)
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert weights == expected_weights


@pytest.mark.parametrize("kind", first_of([signal.SIGKILL, signal.SIGINT]))
def test_a_stopped_driver_goes_on_to_the_same_trajectory(kind, cluster, tmp_path, undisturbed):
    driver = Path(__file__).parent / "ray_driver.py"
    process = subprocess.Popen(
        [sys.executable, str(driver), str(tmp_path), cluster],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    heard = 0
    for line in process.stdout:
        heard = int(line)
        if heard == 11:
            process.send_signal(kind)
    process.wait()
    assert process.returncode != 0
    assert 11 <= heard < 17
    for saved in [*tmp_path.rglob("*.pkl"), *tmp_path.rglob("experiment_state-*.json")]:
        saved.unlink()  # nothing that Ray Tune saved is needed
    weights, recorder = run(tmp_path, ToyMethod(2), resume=True)
    expected, expected_weights = undisturbed(ToyMethod(2))
    steps, resumed = expected.of("hyper_step"), recorder.of("hyper_step")
    assert 18 - heard - 1 <= len(resumed) < 18
    assert resumed == steps[len(steps) - len(resumed) :]
    assert weights == expected_weights


@pytest.mark.parametrize("transport", first_of(["mailbox", "direct"]))
def test_a_run_that_is_asked_to_stop_goes_on_without_repeating_anything(transport, tmp_path, undisturbed):
    method = ToyMethod(2, checkpoint_every=1000)
    before = Recorder()
    with pytest.raises(Stopped, match=r"after \d+ hyper-steps"):
        run(tmp_path, method, recorder=before, transport=transport, stop=lambda: len(before.of("hyper_step")) > 4)
    weights, after = run(tmp_path, method, resume=True)
    expected, expected_weights = undisturbed(method)
    assert before.of("hyper_step") + after.of("hyper_step") == expected.of("hyper_step")
    assert sorted(before.of("reported") + after.of("reported")) == sorted(expected.of("reported"))
    assert weights == expected_weights


@pytest.mark.full
def test_the_end_of_a_finished_run_is_there_again_on_resume(tmp_path):
    weights, _ = run(tmp_path, ToyMethod(1))
    again, recorder = run(tmp_path, ToyMethod(1), resume=True)
    assert again == weights
    assert recorder.of("reported") == []


class Watcher(tune.Callback):
    """Writes down how often trials start, and their states after each step of Tune's loop."""

    def __init__(self):
        self.starts = []
        self.states = {}

    def on_trial_start(self, iteration, trials, trial, **info):
        self.starts.append(trial.trial_id)

    def on_step_end(self, iteration, trials, **info):
        for trial in trials:
            self.states.setdefault(trial.trial_id, []).append(trial.status)


def test_the_scheduler_serves_a_user_of_ray_tune(tmp_path):
    watcher = Watcher()
    scheduler = SelfTuningScheduler(
        steps=40, team_size=2, warmup_steps=4, train_steps=2, learning_rate=0.1, checkpoint_every=4
    )
    tuner = tune.Tuner(
        trainable(Toys()),
        tune_config=scheduler.tune_config(),
        run_config=scheduler.run_config(storage_path=str(tmp_path), name="toys", callbacks=[watcher]),
    )
    results = tuner.fit()
    assert not results.errors
    for result in results:
        columns = {"training_loss", "validation_loss", "test_loss", "hyper_step", "training_step"}
        assert columns <= set(result.metrics)
        assert result.metrics["training_step"] == 40
        assert result.checkpoint is not None
        method = scheduler.teams[0].method
        assert list(result.metrics["hyperparameters"].values()) == method.hyperparameters.tolist()
        assert list(result.metrics["hyperparameters"]) == list(method.space.names)
    lowest = min(result.metrics["validation_loss"] for result in results)
    assert results.get_best_result().metrics["validation_loss"] == lowest
    column = f"hyperparameters/{method.space.names[0]}"
    assert results.get_dataframe()[column].tolist() == [method.hyperparameters[0].item()] * 2
    assert len(watcher.starts) == 2
    for states in watcher.states.values():
        changes = [state for state, after in zip(states, [*states[1:], None], strict=True) if state != after]
        assert changes[-2:] == [Trial.RUNNING, Trial.TERMINATED]
        assert changes.count(Trial.RUNNING) == 1


@pytest.mark.full
def test_a_trainer_that_fails_for_good_is_named_with_its_error(tmp_path):
    scheduler = BilevelScheduler(ToyMethod(2), 2)
    results = tune.Tuner(
        trainable(Toys(fails=(1, 11))),
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=2),
        run_config=scheduler.run_config(
            storage_path=str(tmp_path), failure_config=tune.FailureConfig(max_failures=0)
        ),
    ).fit()
    members = scheduler.teams[0].members
    assert members[1].lost == "ArithmeticError: the toy broke"
    assert members[0].final is not None
    assert len(results.errors) == 1


def test_a_run_that_loses_every_trainer_says_why(tmp_path):
    with pytest.raises(SchedulerError, match="no trainer got to its end: trainer 0: loss is nan at step 21; its"):
        run(tmp_path, ToyMethod(1), Toys(diverges=(0, 21)))


def test_a_wrong_setting_found_on_a_worker_comes_back_as_such(tmp_path):
    with pytest.raises(SettingError, match=r"trainers\.gpus: torch finds no GPU here"):
        run(tmp_path, ToyMethod(1), Toys(refuses=True))


def test_missing_resources_are_named_before_anything_starts(tmp_path):
    with pytest.raises(SchedulerError, match="asked for 1 cpu and 2 gpus, the cluster has 2 cpus and 0 gpus"):
        run(tmp_path, ToyMethod(1), gpus=2)
    assert not list(tmp_path.iterdir())


def search(folder, factory, transport="direct"):
    """A search by two trainers: what is heard of it, and their last reports."""
    recorder = Recorder()
    reports = run_on_ray(
        method(2),
        factory,
        members=2,
        cpus=1,
        gpus=0,
        folder=folder,
        listener=recorder,
        space=SmoothTrainerFactory(PROBLEM)(0).space,
        transport=transport,
    )
    return recorder, reports


@pytest.mark.parametrize("transport", first_of(["direct", "mailbox"]))
def test_two_trainers_take_the_steps_of_one_although_a_candidate_is_killed(transport, tmp_path):
    marker = tmp_path / "killed"
    recorder, reports = search(tmp_path / "run", Mortals(1, "candidate", 3, marker), transport)
    expected, end = alone()
    assert marker.exists()
    assert iterates(recorder) == expected
    assert [u_of(report) for report in reports.values()] == [u_of(end)] * 2


@pytest.mark.parametrize("transport", first_of(["direct", "mailbox"]))
def test_a_killed_leader_starts_cold_and_its_team_goes_on(transport, tmp_path):
    marker = tmp_path / "killed"
    recorder, reports = search(tmp_path / "run", Mortals(0, "candidate", 3, marker), transport)
    assert marker.exists()
    assert close(iterates(recorder), alone()[0])
    assert len(reports) == 2


@pytest.mark.full
def test_the_line_search_serves_a_user_of_ray_tune(tmp_path):
    scheduler = InexactLineSearchScheduler(steps=STEPS, team_size=2, **SETTINGS)
    results = tune.Tuner(
        trainable(SmoothTrainerFactory(PROBLEM)),
        tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=2, metric="validation_loss", mode="min"),
        run_config=scheduler.run_config(storage_path=str(tmp_path), name="quadratic", verbose=0),
    ).fit()
    assert not results.errors
    for result in results:
        assert result.metrics["hyper_step"] == STEPS - 1
        assert result.metrics["validation_loss"] == alone()[1].metrics["validation_loss"]
        assert result.metrics["work"] > 0


@pytest.mark.full
@pytest.mark.parametrize("name", first_of(sorted(METHODS)))
def test_networks_are_tuned_as_in_one_process_although_a_worker_is_killed(name, tmp_path):
    marker, recorder = tmp_path / "killed", Recorder()
    reports = run_on_ray(
        network_fakes.method(name),
        Networks(name, marker),
        members=2,
        cpus=1,
        gpus=0,
        folder=tmp_path / "run",
        listener=recorder,
        space=Networks(name)(0).space,
    )
    steps, networks = network_fakes.here(name)
    assert marker.exists()
    assert len(steps) > 4
    assert network_fakes.hyper_steps(recorder) == steps
    assert network_fakes.payloads(reports) == networks


@pytest.mark.full
def test_a_wrong_setting_found_at_the_first_order_comes_back_as_such(tmp_path):
    single = partial(Penalty, Budget(steps=20), PenaltySettings(warmup_steps=0, train_steps=1, momentum=0.3), 2)
    with pytest.raises(SettingError, match=r"method\.momentum: is for one gradient per training step"):
        run_on_ray(
            single,
            network_fakes.stepwise,
            members=2,
            cpus=1,
            gpus=0,
            folder=tmp_path,
            listener=Recorder(),
            space=network_fakes.stepwise(0).space,
        )


def test_a_cluster_that_asks_for_a_token_is_told_from_one_that_is_away(cluster):
    script = f"from selftune.schedulers.cluster import connected\nwith connected({cluster!r}): pass"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True)
    assert "ConnectionError: it asks for its token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH" in done.stderr
