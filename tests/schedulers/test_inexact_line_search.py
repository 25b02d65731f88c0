"""A team that searches through Ray Tune takes the steps of a single trainer; no Ray is started."""

import pytest
from fake_tune import FakeTrial, FakeTune
from full_matrix import first_of
from ray.tune.experiment import Trial
from ray_fakes import Recorder
from smooth_fakes import PROBLEM, SETTINGS, STEPS, Mortals, Traced, alone, close, iterates, u_of

from selftune.errors import SettingError
from selftune.schedulers import InexactLineSearchScheduler, trainable
from selftune.training.smooth_trainer import SmoothTrainerFactory

pytestmark = pytest.mark.usefixtures("node", "local_trainables")


@pytest.fixture(autouse=True)
def _room(node):
    node(CPU=8)


def make(team_size, factory=None, trials=None, **settings):
    recorder = Recorder()
    scheduler = InexactLineSearchScheduler(
        steps=STEPS, team_size=team_size, listener=lambda team: recorder, **SETTINGS
    )
    worker = trainable(factory or SmoothTrainerFactory(PROBLEM))
    return FakeTune(scheduler, worker, trials or team_size, **settings), recorder


def ends(tune):
    members = tune.scheduler.teams[0].members.values()
    return [entry.final for entry in members if entry.final is not None]


@pytest.mark.parametrize("team_size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_team_takes_the_steps_of_a_single_trainer(team_size, seed):
    tune, recorder = make(team_size, seed=seed)
    tune.run()
    expected, end = alone()
    assert iterates(recorder) == expected
    assert [u_of(report) for report in ends(tune)] == [u_of(end)] * team_size


def test_the_search_backtracks_and_other_trainers_win():
    starts = []
    tune, recorder = make(3, lambda member: Traced(PROBLEM, member, starts))
    tune.run()
    assert len({event[7][0] for event in recorder.of("hyper_step")}) > 1
    leaders = {member for member, kind, _ in starts if kind == "hypergradient"}
    assert len(leaders) > 1


@pytest.mark.parametrize("seed", range(3))
def test_only_the_first_solve_of_a_team_is_cold(seed):
    starts = []
    tune, _ = make(3, lambda member: Traced(PROBLEM, member, starts), seed=seed)
    tune.run()
    assert [start for start in starts if start[2] == "cold"] == [(0, "hypergradient", "cold")]
    assert any(start[1:] == ("candidate", "other") for start in starts)


def test_a_single_trainer_exports_nothing(monkeypatch):
    monkeypatch.setattr("fake_tune.Actor._export_state", lambda actor, key: pytest.fail("asked for a state"))
    make(1)[0].run()


@pytest.mark.parametrize("seed", range(3))
def test_states_are_asked_for_once_and_let_go_of(seed, monkeypatch):
    from fake_tune import Actor

    asked, export = [], Actor._export_state
    monkeypatch.setattr(Actor, "_export_state", lambda actor, key: (asked.append(key), export(actor, key))[1])
    tune, _ = make(4, seed=seed)
    while not tune.scheduler.teams or not tune.scheduler.teams[0].over:
        tune.step()
        for group in tune.scheduler._groups.entries:
            assert len(group.warm_starts._states) <= 2
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("seed", first_of(range(12), always=4))
@pytest.mark.parametrize("team_size", [1, 2, 4])
def test_killed_workers_leave_a_team_that_goes_on(team_size, seed):
    tune, recorder = make(team_size, seed=seed, kill=0.1)
    tune.run()
    expected, _ = alone()
    assert tune.kills > 0
    assert not recorder.of("lost")
    assert len(ends(tune)) == team_size
    # some solves started cold: each step is certified, but not the same to the last bit
    assert close(iterates(recorder), expected)


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_candidate_is_tried_again_and_changes_nothing(seed):
    tune, recorder = make(3, seed=seed)
    team = lambda: tune.scheduler.teams[0]  # noqa: E731
    killed = 0
    while not tune.scheduler.teams or not team().over:
        tune.step()
        for member, trial in enumerate(tune.trials):
            actor = trial.temporary_state.ray_actor
            about = team().method._issued.get(member) if actor and actor.alive and actor.tasks else None
            if (
                killed < 3
                and about is not None
                and about.candidate is not None
                and team().method._leader != member
            ):
                actor.die()
                killed += 1
    assert killed == 3
    assert iterates(recorder) == alone()[0]


def test_a_candidate_whose_trainer_is_lost_for_good_is_tried_elsewhere():
    trials = [FakeTrial(f"t{i}", max_failures=0) for i in range(3)]
    tune, recorder = make(3, Mortals(1, "candidate"), trials)
    tune.run()
    assert [event[1] for event in recorder.of("lost")] == [1]
    assert iterates(recorder) == alone()[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_leader_leaves_a_team_that_goes_on(seed):
    trials = [FakeTrial(f"t{i}", max_failures=1) for i in range(3)]
    tune, recorder = make(3, trials=trials, seed=seed)
    while not tune.scheduler.teams or tune.scheduler.teams[0].hyper_step != 4:
        tune.step()
    team = tune.scheduler.teams[0]
    while all(issued.candidate is None for issued in team.method._issued.values()):
        tune.step()
    tune.trials[team.method._leader].temporary_state.ray_actor.die()
    tune.run()
    assert close(iterates(recorder), alone()[0])  # it goes on warm if another one has the warm start by then
    assert len(ends(tune)) == 3


def test_an_order_whose_warm_start_was_lost_on_its_way_is_done_cold(monkeypatch):
    tune, recorder = make(2)
    export, lost = tune.scheduler._transport.export, []

    def losing(trial, key):
        reference = export(trial, key)
        if len(lost) < 2:
            lost.append(key)
            trial.temporary_state.ray_actor.tasks.pop()
            reference.state = "lost"
        return reference

    monkeypatch.setattr(tune.scheduler._transport, "export", losing)
    tune.run()
    readies = sum(result["event"] == "ready" for trial in tune.trials for result in trial.results)
    assert readies > 2
    assert tune.kills == 0
    assert close(iterates(recorder), alone()[0])


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_driver_goes_on_from_its_snapshot(seed):
    first, _ = make(2, seed=seed)
    while not first.scheduler.teams or (first.scheduler.teams[0].hyper_step or 0) < 3 + seed:
        first.step()
    first.checkpoint()
    snapshot = first.snapshots[-1]
    after = Recorder()
    second = first.restored(snapshot, snapshot, seed, listener=lambda team: after).run()
    expected, _ = alone()
    resumed = iterates(after)
    assert 0 < len(resumed) < len(expected)
    assert close(resumed, expected[-len(resumed) :])
    assert len(ends(second)) == 2


def test_no_log_of_orders_is_kept():
    tune, _ = make(2)
    longest = 0
    while not tune.scheduler.teams or not tune.scheduler.teams[0].over:
        tune.step()
        for team in tune.scheduler.teams:
            longest = max(longest, *(len(entry.log) for entry in team.members.values()))
    assert longest == 1


def test_results_have_sensible_columns():
    tune, _ = make(2)
    tune.run()
    for trial in tune.trials:
        assert trial.status == Trial.TERMINATED
        assert {"validation_loss", "hyper_step", "work"} <= set(trial.results[0])
        last = trial.results[-1]
        assert last["validation_loss"] > 0
        assert last["hyper_step"] == STEPS - 1
        assert last["work"] > 0


def test_settings_reach_the_method():
    method = InexactLineSearchScheduler(work=500, team_size=3, backtracks=7).make_method()
    assert method.settings.backtracks == 7
    assert method.team_size == 3
    assert (method.work_budget, method.step_budget) == (500, None)


def test_an_unknown_setting_is_refused_with_the_close_one():
    with pytest.raises(SettingError, match="backtrack: unknown setting; did you mean backtracks"):
        InexactLineSearchScheduler(steps=3, backtrack=7)
