"""Real trainers of which one lies: the others' trajectory, the way back, and what goes on after a kill."""

from dataclasses import replace

import pytest
import torch
from full_matrix import first_of

from selftune.hyperparameters import Tune
from selftune.listener import Remembered
from selftune.methods import (
    Aggregation,
    Budget,
    OnlineImplicit,
    OnlineImplicitSettings,
    Penalty,
    PenaltySettings,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory, run_in_process
from selftune.training.estimators.response import ResponseEstimator
from selftune.training.team_run import TeamRun

COMMON = {"warmup_steps": 4, "train_steps": 2, "checkpoint_every": 1}
SMOOTH = [regularizers["weight_decay"](strength=Tune(1e-2)), regularizers["label_smoothing"](epsilon=Tune(0.05))]
METHODS = {
    "self_tuning": (SelfTuning, SelfTuningSettings, 1),
    "implicit": (OnlineImplicit, OnlineImplicitSettings, 1),
    "penalty": (Penalty, PenaltySettings, 2),
}
MEDIAN = {"name": "coordinate_median", "offences": 2}


class Liar:
    """Sends nonsense until it is trained so far."""

    def __init__(self, trainer, until, nonsense=1e12):
        self._trainer, self.until, self.nonsense = trainer, until, nonsense
        self.space = trainer.space

    def execute(self, order, warm=None):
        report = self._trainer.execute(order, warm)
        found = getattr(report, "hypergradient", None)
        if found is None or report.training_step > self.until:
            return report
        changes = {"hypergradient": torch.full_like(found.hypergradient, self.nonsense)}
        if hasattr(found, "per_batch"):
            changes["per_batch"] = torch.full_like(found.per_batch, self.nonsense)
        return replace(report, hypergradient=replace(found, **changes))

    def __getattr__(self, name):
        return getattr(self._trainer, name)


def method(name="self_tuning", members=3, steps=20, **aggregation):
    machine, settings, group = METHODS[name]
    given = settings(**COMMON, aggregation=Aggregation(**MEDIAN | aggregation))
    return machine(Budget(steps=steps), given, members * group)


def trainers_of(factory, members, liar=None, until=8, nonsense=1e12):
    trainers = {member: factory(member) for member in range(members)}
    if liar is not None:
        trainers[liar] = Liar(trainers[liar], until, nonsense)
    return trainers


def rows(steps):
    return torch.stack([torch.cat([s.hyperparameters, s.hypergradient, s.scale]) for s in steps])


@pytest.mark.parametrize("name", METHODS)
def test_a_trainer_starts_again_from_a_team_mates_network_with_random_numbers_of_its_own(objective, name):
    group = METHODS[name][2]
    factory, heard = TrainerFactory(objective, SMOOTH, seed=3, group_size=group), Remembered()
    trainers = trainers_of(factory, 3 * group, liar=2 * group)
    reports = run_in_process(method(name), trainers, heard)
    faulty = [sorted(step.faults) for step in heard.steps]
    liars = list(range(2 * group, 3 * group))
    assert faulty[:2] == [liars, liars]
    assert sum(bool(fault.remark) for step in heard.steps for fault in step.faults.values()) == group
    assert len({report.training_step for report in reports.values()}) == 1
    networks = [torch.cat([t.flatten() for t in reports[m].network.values()]) for m in (0, 2 * group)]
    own = run_in_process(method(name), trainers_of(factory, 3 * group))[2 * group].network
    apart = networks[1] - networks[0]
    from_before = torch.cat([t.flatten() for t in own.values()]) - networks[0]
    assert 0 < apart.norm() < 0.5 * from_before.norm()  # a few steps apart, and not as far as one that began alone
    assert trainers[2 * group].lower.streams.member == 2


def test_what_others_find_does_not_depend_on_how_large_the_lie_is(objective, regularization):
    factory, found = TrainerFactory(objective, regularization, seed=3), []
    for lie in (1e6, 1e12):
        heard = Remembered()
        run_in_process(method(offences=50, members=4), trainers_of(factory, 4, 3, 100, lie), heard)
        found.append(heard.steps)
    assert torch.equal(rows(found[0]), rows(found[1]))
    for one, other in zip(*found, strict=True):
        assert one.validation_loss == other.validation_loss
        assert list(one.faults) == list(other.faults) == [3]


def test_a_hypergradient_of_its_own_that_is_not_finite_ends_no_trainer_of_a_team_that_votes(
    objective, regularization, monkeypatch
):
    original = ResponseEstimator.hypergradient

    def blown_up(self, number):
        found, measures = original(self, number)
        if self.lower.streams.member == 1 and number == 8:
            found = replace(found, hypergradient=found.hypergradient * torch.nan)
        return found, measures

    monkeypatch.setattr(ResponseEstimator, "hypergradient", blown_up)
    factory, heard = TrainerFactory(objective, regularization, seed=3), Remembered()
    reports = run_in_process(method(), trainers_of(factory, 3), heard)
    assert set(reports) == {0, 1, 2}
    assert [(step.training_step, list(step.faults)) for step in heard.steps if step.faults] == [(8, [1])]
    mean = SelfTuning(Budget(steps=20), SelfTuningSettings(**COMMON), 3)
    assert run_in_process(mean, trainers_of(factory, 3))[1].kind == "diverged"  # as ever


@pytest.mark.parametrize("rounds", first_of([5, 3, 4, 6, 7, 8], always=2))
def test_a_state_saved_in_any_round_leads_to_the_same_trajectory(objective, regularization, tmp_path, rounds):
    factory, wanted, found = TrainerFactory(objective, regularization, seed=3), Remembered(), Remembered()
    run_in_process(method(), trainers_of(factory, 3, liar=0), wanted)
    first = TeamRun(method(), trainers_of(factory, 3, liar=0), found)
    first.join()
    for _ in range(rounds):
        first.round()
    first.save(tmp_path)
    second = TeamRun(method(), trainers_of(factory, 3, liar=0), found)
    assert second.restore(tmp_path)
    second.join()
    while not second.done:
        second.round()
    assert torch.equal(rows(found.steps), rows(wanted.steps))
    assert [step.faults for step in found.steps] == [step.faults for step in wanted.steps]
