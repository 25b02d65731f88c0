"""Teams that start with the trainers that fit, and take in the others when there is room; no Ray is started."""

import random

import pytest
import torch
from fake_tune import FakeTrial, FakeTune
from full_matrix import first_of
from network_fakes import OBJECTIVE, TUNED
from ray_fakes import Recorder

from selftune.errors import SettingError
from selftune.methods import Replay, Segment, Synchronization
from selftune.schedulers import (
    BilevelScheduler,
    NetworkLineSearchScheduler,
    PenaltyScheduler,
    SchedulerError,
    SelfTuningScheduler,
    run_record,
    trainable,
    trial_groups,
)
from selftune.schedulers.run_record import RunRecord, read_record
from selftune.training import TrainerFactory

pytestmark = pytest.mark.usefixtures("node", "local_trainables")

FACTORY = TrainerFactory(OBJECTIVE, TUNED, seed=3)
SETTINGS = {"warmup_steps": 4, "train_steps": 2, "checkpoint_every": 2}
TEAM, STEPS = 4, 60


def make(recorder, seed=0, kill=0.0, at_least=2, **settings):
    scheduler = SelfTuningScheduler(
        steps=STEPS, team_size=TEAM, at_least=at_least, listener=lambda team: recorder, **SETTINGS | settings
    )
    return FakeTune(scheduler, trainable(FACTORY), TEAM, seed=seed, kill=kill)


def first_weights(report):
    return torch.cat([tensor.flatten() for tensor in report.network.values()])


def until(tune, hyper_steps):
    while not (teams := tune.scheduler.teams) or (teams[0].hyper_step or 0) < hyper_steps:
        tune.step()


def test_a_team_starts_with_the_members_that_fit_and_ends_without_the_others(node):
    node(CPU=2)
    recorder = Recorder()
    tune = make(recorder).run()
    team = tune.scheduler.teams[0]
    assert recorder.events[0] == ("started", 2)
    assert [entry.final is not None for entry in team.members.values()] == [True, True, False, False]
    assert len(recorder.of("hyper_step")) == (STEPS - 4) / 2
    lost = [event[1:] for event in recorder.of("lost")]
    assert lost == [(m, "the cluster had no room for it before the others had come to their end") for m in (2, 3)]
    assert len(recorder.arrivals) == 2


@pytest.mark.parametrize("kill", [0.0, 0.03])
@pytest.mark.parametrize("seed", first_of(range(6), always=2))
def test_a_late_member_goes_on_from_a_team_mates_network(node, seed, kill):
    node(CPU=2)
    recorder = Recorder()
    tune = make(recorder, seed, kill)
    until(tune, 10)
    node(CPU=3)
    tune.run()
    team = tune.scheduler.teams[0]
    assert sorted(set(recorder.arrivals)) == [0, 1, 2]
    finals = {m: entry.final for m, entry in team.members.items() if entry.final is not None}
    assert {m: report.training_step for m, report in finals.items()} == dict.fromkeys(range(3), STEPS)
    assert set(team.method.results(finals)) == {0, 1, 2}
    own, late, other = (first_weights(finals[member]) for member in (0, 2, 1))
    assert 0 < (late - own).norm() < 0.5 * (other - own).norm()  # of one origin
    assert len(recorder.of("hyper_step")) == (STEPS - 4) / 2
    assert [event[0] for event in recorder.events].count("started") == 1


def test_what_a_late_member_says_before_it_has_taken_over_does_not_count(node):
    node(CPU=2)
    alone, grown = Recorder(), Recorder()
    make(alone).run()
    tune = make(grown)
    until(tune, 10)
    node(CPU=3)
    tune.run()
    # number, losses, values, scales, hypergradients
    before, after = ([(step[1], *step[4:9]) for step in recorder.of("hyper_step")] for recorder in (alone, grown))
    second = grown.events.index(("reported", 2, 1, "cycle"))  # the first one from a team-mate's network
    same = sum(event[0] == "hyper_step" for event in grown.events[:second])
    assert after[:same] == before[:same]
    assert after[same] != before[same]


@pytest.mark.parametrize("seed", first_of(range(6), always=2))
def test_drivers_that_die_meanwhile_leave_no_trace(node, seed, tmp_path, monkeypatch):
    """The cluster grows under the second driver; every driver goes on with the team that there is."""
    monkeypatch.setattr(run_record, "_SHARE", 1.0)  # records are written whenever something is new
    place, life, draw, recorder = tmp_path / "ray", 0, random.Random(seed), Recorder()
    node(CPU=2)
    while (tune := driver(place, recorder, 100 * seed + life)) is not None:
        for _ in range(draw.randrange(40, 200)):
            if all(trial.is_finished() for trial in tune.trials) and not tune.search_alg.left:
                break
            tune.step()
        life += 1
        node(CPU=3)
    assert life > 1
    space = FACTORY(0).space
    members = read_record(place, space).scheduler["teams"][0]["members"]
    steps = {m: entry.final.training_step for m, entry in members.items() if entry.final is not None}
    assert steps == dict.fromkeys(range(3), STEPS)
    numbers = {event[1] for event in recorder.of("hyper_step")}
    assert numbers == set(range((STEPS - 4) // 2))


def shrink(tune, node, room):
    """Nodes are gone for good, and the trainers on them."""
    node(CPU=room)
    tune.room = room
    for trial in sorted(tune.trials, key=lambda trial: trial.trial_id)[room:]:
        if trial.temporary_state.ray_actor is not None:
            trial.temporary_state.ray_actor.die()


@pytest.mark.parametrize("kill", [0.0, 0.03])
@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("seed", first_of(range(6), always=1))
def test_a_team_goes_on_without_members_that_find_no_room_again(node, monkeypatch, back, kill, seed):
    monkeypatch.setattr(trial_groups, "_WAIT_FOR_ROOM", 0.0)
    node(CPU=3)
    recorder = Recorder()
    tune = make(recorder, seed, kill)
    until(tune, 5)
    shrink(tune, node, 2)
    until(tune, 12)
    team = tune.scheduler.teams[0]
    [out] = {event[1] for event in recorder.of("left_out")}
    assert kill or out == 2
    assert not team.members[out].joined
    if back:
        node(CPU=3)
        tune.room = 3
    tune.run()
    finals = {m: entry.final for m, entry in team.members.items() if entry.final is not None}
    there = set(team.method.results(finals))
    assert {finals[member].training_step for member in there} == {STEPS}
    assert len(recorder.of("hyper_step")) == (STEPS - 4) / 2
    assert there == ({0, 1, 2} if back else {0, 1, 2} - {out})
    assert len(recorder.of("left_out")) == 1
    assert {event[1] for event in recorder.of("lost")} == ({3} if back else {out, 3})
    if back and not kill:
        own, late, other = (first_weights(finals[member]) for member in (0, 2, 1))
        assert 0 < (late - own).norm() < 0.5 * (other - own).norm()  # of one origin


@pytest.mark.parametrize("patience", [0.0, 1e9])
@pytest.mark.parametrize("seed", first_of(range(6), always=2))
def test_the_place_of_a_trainer_that_dies_is_not_given_to_a_newcomer(node, monkeypatch, patience, seed):
    """With patience a newcomer waits for its place on the cluster, so that this one grows."""
    monkeypatch.setattr(trial_groups, "_WAIT_FOR_ROOM", 0.0)
    node(CPU=3)
    recorder = Recorder()
    tune = make(recorder, seed, patience=patience)
    tune.room = 3
    until(tune, 5)
    tune.scheduler._groups._patience, trials = 0.0, list(tune.trials)  # one is left out at once
    shrink(tune, node, 2)
    until(tune, 12)
    tune.scheduler._groups._patience = patience
    for member in (0, 1) * 3:
        trials[member].temporary_state.ray_actor.die()
        until(tune, tune.scheduler.teams[0].hyper_step + 1)
    tune.run()
    assert [event[1] for event in recorder.of("left_out")] == [2]
    assert set(recorder.arrivals[-6:]) == {0, 1}
    assert [event[1] for event in recorder.of("lost")] == [2, 3]


def test_a_team_waits_where_too_few_would_be_left(node, monkeypatch):
    monkeypatch.setattr(trial_groups, "_WAIT_FOR_ROOM", 0.0)
    node(CPU=3)
    recorder, whole = Recorder(), Recorder()
    tune = make(recorder, at_least=3)
    until(tune, 5)
    shrink(tune, node, 2)
    for _ in range(300):
        tune.step()
    assert tune.scheduler.teams[0].hyper_step <= 6
    node(CPU=3)
    tune.room = 3
    tune.run()
    make(whole, at_least=3).run()
    there, expected = ([(step[1], *step[4:9]) for step in one.of("hyper_step")] for one in (recorder, whole))
    assert there == expected
    assert not recorder.of("left_out")


def driver(place, recorder, seed):
    place.mkdir(exist_ok=True)
    space = FACTORY(0).space
    left = read_record(place, space)
    scheduler = SelfTuningScheduler(
        steps=STEPS, team_size=TEAM, at_least=2, listener=lambda team: recorder, **SETTINGS
    )
    scheduler.left = left
    members = range(TEAM) if left is None else left.open_members
    if not members:
        return None
    record = RunRecord(place, scheduler, space, left)
    trials = [FakeTrial(f"{record.run_name}-t{member}", {"member": member}) for member in members]
    tune = FakeTune(scheduler, trainable(FACTORY), trials, seed)
    tune.keep(record, place / record.run_name)
    return tune


def test_independent_networks_are_all_trained_however_few_fit(node):
    node(CPU=2)
    space = FACTORY(0).space
    segment = Segment(10, space.constrain(space.start))
    scheduler = BilevelScheduler(lambda: Replay([segment], 10, TEAM), TEAM, at_least=1)
    tune = FakeTune(scheduler, trainable(FACTORY), TEAM).run()
    members = tune.scheduler.teams[0].members
    assert {m: entry.final.training_step for m, entry in members.items()} == dict.fromkeys(range(TEAM), 10)


def test_a_growing_cluster_is_asked_for_the_others(node):
    node(CPU=2)
    scheduler = SelfTuningScheduler(steps=STEPS, team_size=TEAM, at_least=2, patience=60.0, **SETTINGS)
    tune = FakeTune(scheduler, trainable(FACTORY), TEAM).run()  # which gives every trial a place at once
    finals = [entry.final for entry in tune.scheduler.teams[0].members.values()]
    assert all(report is not None for report in finals)


def test_too_small_a_cluster_is_refused(node):
    node(CPU=1)
    with pytest.raises(SchedulerError, match="asked for 2 trainers with 1 cpu each, the cluster has 1 cpu"):
        make(Recorder()).run()


@pytest.mark.parametrize("at_least", [0, 5])
def test_it_is_part_of_a_team(at_least):
    with pytest.raises(SettingError, match="at_least: must be from 1 to 4, the size of the team"):
        make(Recorder(), at_least=at_least)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (PenaltyScheduler, {}),
        (NetworkLineSearchScheduler, {}),
        (SelfTuningScheduler, {"synchronization": Synchronization("asynchronous")}),
    ],
)
def test_methods_whose_team_cannot_grow_refuse_it(kind, settings):
    with pytest.raises(
        SettingError, match="at_least: is for methods whose trainers each train a network of their"
    ):
        kind(steps=600, team_size=4, at_least=2, **settings)
