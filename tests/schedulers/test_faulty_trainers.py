"""A trial that lies is outvoted and starts again as in one process, whatever is killed; no Ray is started."""

from dataclasses import replace

import pytest
import torch
from fake_tune import FakeTune
from ray_fakes import Recorder
from test_penalty import FACTORY as PAIRS

from selftune.methods import Aggregation, Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import SelfTuningScheduler, trainable
from selftune.training import Trainer, run_in_process

SETTINGS = {
    "warmup_steps": 4,
    "train_steps": 2,
    "checkpoint_every": 2,
    "aggregation": Aggregation("coordinate_median", offences=2),
}
STEPS, TEAM = 24, 3


class Liar(Trainer):
    """Sends nonsense until it is trained so far."""

    def execute(self, order, warm=None):
        report = super().execute(order, warm)
        found = getattr(report, "hypergradient", None)
        if found is None or report.training_step > 8:
            return report
        return replace(report, hypergradient=replace(found, hypergradient=torch.full((2,), 1e12)))


def factory(member):
    kind = Liar if member == 1 else Trainer
    return kind(PAIRS.objective, PAIRS.regularizers, member=member)


def heard(recorder):
    """Hyper-steps without the seconds, which differ from run to run."""
    return [event[1:3] + event[4:] for event in recorder.of("hyper_step")]


@pytest.mark.usefixtures("local_trainables")
@pytest.mark.parametrize("kill", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_team_takes_the_steps_of_one_process(node, seed, kill):
    node(CPU=8)
    alone, together = Recorder(), Recorder()
    method = SelfTuning(Budget(steps=STEPS), SelfTuningSettings(**SETTINGS), TEAM)
    reports = run_in_process(method, {member: factory(member) for member in range(TEAM)}, alone)
    scheduler = SelfTuningScheduler(steps=STEPS, team_size=TEAM, listener=lambda team: together, **SETTINGS)
    tune = FakeTune(scheduler, trainable(factory), TEAM, seed=seed, kill=kill)
    tune.run()
    assert len(heard(alone)) == (STEPS - 4) / 2
    assert heard(together) == heard(alone)
    members = tune.scheduler.teams[0].members
    for member, report in reports.items():
        for name, tensor in report.tensors.items():
            assert torch.equal(members[member].final.tensors[name], tensor)
    assert (tune.kills > 0) is (kill > 0)


@pytest.mark.usefixtures("local_trainables")
@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_is_to_start_from_a_state_waits_while_its_holder_restarts(node, seed):
    node(CPU=8)
    alone, together = Recorder(), Recorder()
    method = SelfTuning(Budget(steps=STEPS), SelfTuningSettings(**SETTINGS), TEAM)
    run_in_process(method, {member: factory(member) for member in range(TEAM)}, alone)
    scheduler = SelfTuningScheduler(steps=STEPS, team_size=TEAM, listener=lambda team: together, **SETTINGS)
    tune = FakeTune(scheduler, trainable(factory), TEAM, seed=seed)
    while not any(
        order.kind == "cycle" and order.start for team in scheduler.teams for order in team.members[1].log
    ):
        tune.step()
    source = scheduler.teams[0].method._conduct.exclusions[1].source
    tune.trials[source].temporary_state.ray_actor.die()
    tune.run()
    assert heard(together) == heard(alone)


def without_its_checkpoints(seed):
    """A member has started from a state that nobody keeps any more; another driver has older checkpoints of it."""
    heard = Recorder()
    scheduler = SelfTuningScheduler(steps=STEPS, team_size=TEAM, **SETTINGS)
    tune = FakeTune(scheduler, trainable(factory), TEAM, seed=seed)
    tune.step()
    team, member = scheduler.teams[0], scheduler.teams[0].members[1]

    def start():
        return next((order for order in member.log if order.start and order.number <= member.told), None)

    while (order := start()) is None or team.states.exists(order.start):
        tune.step()
    trial = tune.trials[1]
    trial.checkpoints = [one for one in trial.checkpoints if one.metrics["order"] < order.number]
    tune.checkpoint()
    snapshot = tune.snapshots[-1]
    return tune.restored(snapshot, snapshot, listener=lambda team: heard), heard, order.number


@pytest.mark.usefixtures("local_trainables")
@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_cannot_take_over_a_state_once_more_takes_over_another_one(node, seed):
    node(CPU=8)
    tune, heard, number = without_its_checkpoints(seed)
    tune.run()
    [(_, member, reason)] = heard.of("left_out")
    assert member == 1
    assert reason.startswith(f"it was to do order {number} once more, and nobody keeps the state any more")
    assert not heard.of("lost")
    assert heard.arrivals.count(1) == 2  # with its driver, and as a newcomer
    finals = {m: entry.final for m, entry in tune.scheduler.teams[0].members.items()}
    assert {m: report.training_step for m, report in finals.items()} == dict.fromkeys(range(TEAM), STEPS)
    assert set(tune.scheduler.teams[0].method.results(finals)) == set(range(TEAM))
    assert [event[1] for event in heard.of("hyper_step")][-1] == (STEPS - 4) // 2 - 1


@pytest.mark.usefixtures("local_trainables")
def test_it_is_lost_where_there_are_no_newcomers(node, monkeypatch):
    node(CPU=8)
    monkeypatch.setattr(SelfTuning, "can_grow", False)
    tune, heard, number = without_its_checkpoints(seed=0)
    tune.run()
    [(_, member, reason)] = heard.of("lost")
    assert member == 1
    assert reason.startswith(f"it was to do order {number} once more")
    assert reason.endswith("so that it cannot go on")
    assert [event[1] for event in heard.of("hyper_step")][-1] == (STEPS - 4) // 2 - 1
