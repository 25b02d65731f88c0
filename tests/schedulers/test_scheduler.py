"""The real scheduler, callback and trainables under a fake controller: no Ray is started."""

import pytest
from fake_tune import FakeTrial, FakeTune
from full_matrix import first_of
from ray.tune.experiment import Trial
from ray_fakes import Recorder, Silent, ToyMethod, Toys

from selftune.errors import SettingError
from selftune.schedulers import BilevelScheduler, SchedulerError, trainable

pytestmark = pytest.mark.usefixtures("node", "local_trainables")


def make(team_size=1, trials=None, method=None, toys=None, listener=None, **settings):
    method = method or ToyMethod(team_size)
    recorder = Recorder()
    patience = settings.pop("patience", 0.0)
    listener = listener or (lambda team: recorder)
    scheduler = BilevelScheduler(method, team_size, listener=listener, patience=patience)
    worker = trainable(toys or Toys())
    return FakeTune(scheduler, worker, team_size if trials is None else trials, **settings), recorder


def finals(tune, team=0):
    entries = tune.scheduler.teams[team].members.items()
    return {m: e.final.tensors["network.weights"].tolist() for m, e in entries if e.final is not None}


@pytest.mark.parametrize("team_size", [1, 2])
def test_trajectory_is_that_of_a_run_in_process(team_size, undisturbed):
    tune, recorder = make(team_size)
    tune.run()
    expected, weights = undisturbed(ToyMethod(team_size))
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert len(recorder.of("hyper_step")) == 18
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
    assert finals(tune) == weights
    assert recorder.events[0] == ("started", team_size)
    assert recorder.events[-1] == ("ended",)


@pytest.mark.parametrize("seed", first_of(range(12), always=5))
@pytest.mark.parametrize("team_size", [1, 2])
def test_killed_workers_change_nothing(team_size, seed, undisturbed):
    tune, recorder = make(team_size, seed=seed, kill=0.15)
    tune.run()
    expected, weights = undisturbed(ToyMethod(team_size))
    assert tune.kills > 0
    assert recorder.of("hyper_step") == expected.of("hyper_step")
    assert sorted(recorder.of("reported")) == sorted(expected.of("reported"))
    assert finals(tune) == weights


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_driver_goes_on_to_the_same_trajectory(seed, undisturbed):
    first, before = make(2, seed=seed, kill=0.05)
    for _ in range(60 + 12 * seed):
        first.step()
        if first.random.random() < 0.05:
            first.checkpoint()
    assert first.snapshots
    snapshot = first.snapshots[-1]
    after = Recorder()
    second = first.restored(snapshot, snapshot, seed, kill=0.05, listener=lambda team: after).run()
    expected, weights = undisturbed(ToyMethod(2))
    steps, resumed = expected.of("hyper_step"), after.of("hyper_step")
    assert resumed == steps[len(steps) - len(resumed) :]
    assert len(before.of("hyper_step")) + len(resumed) >= len(steps)
    assert finals(second) == weights


@pytest.mark.parametrize("older", ["trials", "state"])
@pytest.mark.parametrize("seed", range(8))
def test_a_driver_killed_between_its_two_files_goes_on_to_the_same_trajectory(older, seed, undisturbed):
    first, _ = make(2, seed=seed)
    while len(first.snapshots) < 3 + seed:  # one after each checkpoint
        first.step()
    previous, last = first.snapshots[-2:]
    pair = (previous, last) if older == "trials" else (last, previous)
    after = Recorder()
    second = first.restored(*pair, seed, listener=lambda team: after).run()
    expected, weights = undisturbed(ToyMethod(2))
    steps, resumed = expected.of("hyper_step"), after.of("hyper_step")
    assert resumed == steps[len(steps) - len(resumed) :]
    assert finals(second) == weights


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_asked_to_stop_ends_with_all_that_it_did(seed, undisturbed):
    first, before = make(2, seed=seed, kill=0.02)
    for _ in range(30 + 17 * seed):
        first.step()
    began = len(before.of("hyper_step"))
    snapshot = first.stopped()
    assert len(before.of("hyper_step")) <= began + 1  # what was begun is finished, and nothing more
    after = Recorder()
    second = first.restored(snapshot, snapshot, seed, listener=lambda team: after)
    second.run()
    expected, weights = undisturbed(ToyMethod(2))
    assert before.of("hyper_step") + after.of("hyper_step") == expected.of("hyper_step")  # no step is done twice
    assert sorted(before.of("reported") + after.of("reported")) == sorted(expected.of("reported"))
    assert finals(second) == weights


def test_a_stopped_run_has_a_checkpoint_of_every_trainer_at_its_last_order():
    tune, _ = make(2, seed=3)
    for _ in range(60):
        tune.step()
    tune.stopped()
    members = tune.scheduler.teams[0].members.values()
    assert [entry.saved[-1] for entry in members] == [entry.told for entry in members]


def test_a_run_is_stopped_before_its_first_order():
    tune, recorder = make(2, seed=1)
    tune.stopped()
    assert recorder.of("reported") == []


def test_a_trainer_that_comes_back_is_heard_of():
    tune, recorder = make(1, seed=2, kill=0.1)
    tune.run()
    assert 1 < len(recorder.arrivals) <= len(recorder.departures) + 1  # it may die again before it is back
    assert recorder.departures[0] == (0, "the worker died")


def test_a_trial_that_ended_before_its_team_knew_says_its_last_word_again(undisturbed):
    tune, recorder = make(1)
    while not any(event[-1] == "finish" for event in recorder.of("reported")):
        before = (tune.checkpoint(), tune.snapshots.pop())[1]
        tune.step()
    tune.run()
    tune.checkpoint()
    ended = tune.snapshots[-1]
    second = tune.restored(ended, before).run()
    assert finals(second) == undisturbed()[1]


def test_nothing_is_left_to_do_after_the_end_of_a_finished_run(undisturbed):
    tune, _ = make(2)
    tune.run()
    tune.checkpoint()
    again = tune.restored(tune.snapshots[-1], tune.snapshots[-1])
    assert all(trial.status == Trial.TERMINATED for trial in again.trials)
    assert finals(again.run()) == undisturbed(ToyMethod(2))[1]


def test_a_trainer_that_diverges_leaves_and_its_team_goes_on():
    toys = Toys(diverges=(1, 21))
    tune, recorder = make(2, toys=toys)
    tune.run()
    (lost,) = recorder.of("lost")
    assert lost[1] == 1
    assert "loss is nan at step 21" in lost[2]
    assert "last good checkpoint is /" in lost[2]
    assert list(finals(tune)) == [0]
    assert len(recorder.of("hyper_step")) == 18
    assert ("reported", 1, 9, "diverged") in recorder.events


def test_diverging_gives_the_same_trajectory_as_in_process(undisturbed):
    toys = Toys(diverges=(1, 21))
    tune, recorder = make(2, toys=toys, seed=5)
    tune.run()
    assert recorder.of("hyper_step") == undisturbed(ToyMethod(2), toys)[0].of("hyper_step")


def test_a_trainer_that_fails_for_good_is_not_waited_for():
    trials = [FakeTrial("t0"), FakeTrial("t1", max_failures=0)]
    tune, recorder = make(2, trials, toys=Toys(fails=(1, 11)))
    tune.run()
    assert recorder.of("lost") == [("lost", 1, "the toy broke")]
    assert list(finals(tune)) == [0]
    assert tune.trials[1].status == Trial.ERROR


def test_a_trainer_lost_before_the_team_is_complete_is_not_waited_for():
    tune, recorder = make(2, [FakeTrial("t0"), FakeTrial("t1", max_failures=0)], seed=1)
    while not any(trial.status == Trial.RUNNING for trial in tune.trials):
        tune.step()
    running = next(trial for trial in tune.trials if trial.status == Trial.RUNNING)
    running.max_failures = 0
    tune.fail(running)
    tune.run()
    assert len(finals(tune)) == 1
    assert len(recorder.of("hyper_step")) == 18


def test_a_trial_stopped_by_the_user_counts_as_lost():
    tune, recorder = make(2)
    while len(recorder.of("hyper_step")) < 5:
        tune.step()
    tune.stop_trial(tune.trials[0])
    tune.run()
    assert recorder.of("lost") == [("lost", 0, "its trial was stopped before the method was done")]


@pytest.mark.parametrize("seed", range(4))
def test_losing_a_trainer_repeats_nothing(seed):
    trials = [FakeTrial("t0"), FakeTrial("t1", max_failures=0)]
    tune, recorder = make(2, trials, toys=Toys(fails=(1, 11)), seed=seed)
    tune.run()
    steps = recorder.of("hyper_step")
    assert [step[1] for step in steps] == list(range(18))
    assert [step[2] for step in steps] == list(range(6, 42, 2))  # no cycle at the same values again, none too many


def test_two_teams_have_trajectories_of_their_own(undisturbed):
    recorders = {}
    listen = lambda team: recorders.setdefault(team, Recorder())  # noqa: E731
    tune, _ = make(2, trials=4, listener=listen, seed=3, kill=0.03)
    tune.run()
    expected, weights = undisturbed(ToyMethod(2))
    for team in (0, 1):
        assert recorders[team].of("hyper_step") == expected.of("hyper_step")
        assert finals(tune, team) == weights


def test_the_second_team_starts_only_when_there_is_room_for_all_of_it(node):
    node(CPU=3)  # room for one and a half teams
    tune, _ = make(2, trials=4)
    most = 0
    while not all(trial.is_finished() for trial in tune.trials) or not tune.trials:
        tune.step()
        most = max(most, sum(t.status in (Trial.RUNNING, Trial.PENDING) for t in tune.trials))
    assert most <= 3


def test_members_are_grouped_by_their_configs():
    trials = [FakeTrial(f"t{i}", {"member": member}) for i, member in enumerate((0, 0, 1, 1))]
    tune, _ = make(2, trials)
    tune.run()
    assert tune.scheduler.state_dict()["places"] == {"t0": (0, 0), "t1": (1, 0), "t2": (0, 1), "t3": (1, 1)}


def test_a_member_outside_of_the_team_is_refused():
    tune, _ = make(2, [FakeTrial("t0", {"member": 2})])
    with pytest.raises(SettingError, match="member: must be from 0 to 1"):
        tune.run()


def test_results_that_loggers_see_are_small_and_have_all_columns():
    tune, _ = make(1)
    tune.run()
    ready, *reports = tune.trials[0].results
    assert ready["event"] == "ready"
    assert str(ready["validation_loss"]) == "nan"
    for result in tune.trials[0].results:
        assert not {"report", "space", "incarnation"} & set(result)
    assert [r["hyper_step"] for r in reports[1:-1]] == list(range(18))
    last = reports[-1]
    assert {"training_loss", "validation_loss", "test_loss", "training_step"} <= set(last)
    assert last["training_loss"] > 0


def test_a_required_metric_is_in_every_result():
    tune, _ = make(1, metric="validation_accuracy")
    tune.run()
    assert all("validation_accuracy" in result for result in tune.trials[0].results)


def test_the_order_log_stays_short():
    tune, recorder = make(1, method=ToyMethod(steps=200, checkpoint_every=3))
    longest = 0
    while len(recorder.of("hyper_step")) < 90:
        tune.step()
        if tune.scheduler.teams:
            longest = max(longest, len(tune.scheduler.teams[0].members[0].log))
    assert longest <= 16


def test_a_method_that_asks_for_nothing_is_an_error():
    tune, _ = make(2, method=Silent)
    with pytest.raises(SchedulerError, match="the method stalled"):
        tune.run()


def test_a_wrong_setting_found_by_a_trainer_ends_the_run():
    tune, _ = make(1, toys=Toys(refuses=True))
    with pytest.raises(SettingError, match=r"trainers\.gpus: torch finds no GPU here"):
        tune.run()


def test_too_small_a_cluster_is_refused_before_anything_starts(node):
    node(CPU=1)
    tune, _ = make(2)
    with pytest.raises(SchedulerError, match="asked for 2 trainers with 1 cpu each, the cluster has 1 cpu"):
        tune.run()
    assert all(trial.status == Trial.PAUSED for trial in tune.trials)


def test_an_autoscaling_cluster_is_given_time_to_grow(node):
    node(CPU=1)
    tune, recorder = make(2, patience=600.0)
    tune.run()
    assert len(recorder.of("hyper_step")) == 18


def test_a_cluster_that_does_not_grow_in_time_is_refused(node):
    node(CPU=1)
    tune, _ = make(2, patience=1e-9)
    with pytest.raises(SchedulerError, match="the cluster has 1 cpu after 1e-09 seconds"):
        tune.run()


def test_too_few_trials_are_refused():
    tune, _ = make(2, trials=3)
    with pytest.raises(SchedulerError, match=r"num_samples=...\) to a multiple of 2"):
        tune.run()


def test_too_few_trials_at_a_time_are_refused():
    tune, _ = make(2, trials=4, max_concurrent=1)
    with pytest.raises(SchedulerError, match="to at least 2"):
        tune.run()


def test_a_forgotten_callback_is_refused():
    tune, _ = make(1)
    tune.scheduler.set_search_properties(None, None)
    with pytest.raises(SchedulerError, match=r"run_config=scheduler.run_config"):
        tune.run()


def test_a_team_has_at_least_one_member():
    with pytest.raises(SettingError, match="team_size: must be at least 1"):
        BilevelScheduler(ToyMethod(), 0)


def test_results_hold_the_tuned_values(monkeypatch):
    tune, _ = make(2)
    tune.run()
    method = tune.scheduler.teams[0].method
    end = dict(zip(method.space.names, method.hyperparameters.tolist(), strict=True))
    start = dict(zip(method.space.names, method.space.constrain(method.space.start).tolist(), strict=True))
    for trial in tune.trials:
        assert trial.results[0]["hyperparameters"] == start
        assert trial.results[-1]["hyperparameters"] == end
        assert all("hyperparameters" in result for result in trial.results)
    monkeypatch.setattr("selftune.schedulers.callback._MOST", 0)
    tune, _ = make(1)
    tune.run()
    (trial,) = tune.trials
    assert ["hyperparameters" in result for result in trial.results].count(True) == 1
    assert trial.results[-1]["hyperparameters"] == pytest.approx(
        dict(zip(method.space.names, tune.scheduler.teams[0].method.hyperparameters.tolist(), strict=True))
    )


def test_a_tune_config_names_what_is_best_and_gives_way():
    scheduler = BilevelScheduler(ToyMethod(2), 2)
    config = scheduler.tune_config()
    assert (config.scheduler, config.num_samples) == (scheduler, 2)
    assert (config.metric, config.mode) == ("validation_loss", "min")
    other = scheduler.tune_config(num_samples=4, metric="test_accuracy", mode="max")
    assert (other.num_samples, other.metric, other.mode) == (4, "test_accuracy", "max")
