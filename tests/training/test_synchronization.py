"""Real trainers whose team does not wait for everyone: on a virtual clock, and after a kill."""

import pytest
import torch

from selftune.hyperparameters import Tune
from selftune.listener import Remembered
from selftune.methods import (
    Budget,
    OnlineImplicit,
    OnlineImplicitSettings,
    SelfTuning,
    SelfTuningSettings,
    Synchronization,
)
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory
from selftune.training.simulator import simulate
from selftune.training.team_run import TeamRun

SMOOTH = [regularizers["weight_decay"](strength=Tune(1e-2)), regularizers["label_smoothing"](epsilon=Tune(0.05))]
METHODS = {"self_tuning": (SelfTuning, SelfTuningSettings), "implicit": (OnlineImplicit, OnlineImplicitSettings)}
RULES = {
    "discarded": Synchronization("quorum", reports=2),
    "used": Synchronization("quorum", reports=2, late="used"),
    "asynchronous": Synchronization("asynchronous"),
}


def method(name, rule):
    machine, settings = METHODS[name]
    given = settings(warmup_steps=4, train_steps=2, checkpoint_every=1, synchronization=RULES[rule])
    return machine(Budget(steps=20), given, 3)


def rows(steps):
    return torch.stack([torch.cat([s.hyperparameters, s.hypergradient, s.scale]) for s in steps])


def trainers_of(objective):
    factory = TrainerFactory(objective, SMOOTH, seed=3)
    return {member: factory(member) for member in range(3)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", METHODS)
def test_simulated_delays_give_one_trajectory(objective, name, rule):
    def found():
        counts = {}

        def duration(report):  # the third trainer is slow
            counts[report.number] = counts.get(report.number, 0) + 1
            return 1.0 + 1.7 * (counts[report.number] == 3)

        return simulate(method(name, rule), trainers_of(objective), duration)

    first, second = found(), found()
    steps = [step for _, step in first.steps]
    assert torch.equal(rows(steps), rows([step for _, step in second.steps]))
    assert rows(steps).isfinite().all()
    assert max(step.training_step for step in steps) == 20
    versions = [event.report.version for event in first.events if event.report.kind == "cycle"]
    assert versions[0] == 0
    assert max(versions) == len(steps) - 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("rounds", [1, 4, 7])
def test_a_state_saved_in_any_round_leads_to_the_same_trajectory(objective, tmp_path, rule, rounds):
    wanted, found = Remembered(), Remembered()
    whole = TeamRun(method("self_tuning", rule), trainers_of(objective), wanted)
    whole.join()
    while not whole.done:
        whole.round()
    first = TeamRun(method("self_tuning", rule), trainers_of(objective), found)
    first.join()
    for _ in range(rounds):
        first.round()
    first.save(tmp_path)
    second = TeamRun(method("self_tuning", rule), trainers_of(objective), found)
    assert second.restore(tmp_path)
    second.join()
    while not second.done:
        second.round()
    assert torch.equal(rows(found.steps), rows(wanted.steps))
    for member, report in whole.last.items():
        for name, tensor in report.tensors.items():
            assert torch.equal(second.last[member].tensors[name], tensor)
