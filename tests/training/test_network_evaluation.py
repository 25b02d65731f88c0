"""Looking at the plain network between orders: what it measures, and that it leaves no trace."""

import pytest
import torch
from method_runs import METHODS, task
from torch import nn

from selftune.fields import settings_of
from selftune.hyperparameters import Tune
from selftune.methods import Budget
from selftune.methods.reports import NetworkEvaluated, StateMissing
from selftune.methods.work_orders import EvaluateNetwork, FinishTraining
from selftune.training import TrainerFactory
from selftune.training.method_record import methods
from selftune.training.team_run import TeamRun


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def team_run(label, **optimization):
    form = methods[label.partition(",")[0]].network
    settings = settings_of(form.settings, METHODS[label])
    factory = TrainerFactory(
        task(network, **optimization),
        {"weight_decay": {"strength": Tune(1e-2)}},
        seed=1,
        group_size=form.group_size,
        steps=24,
    )
    team = {member: factory(member) for member in range(form.group_size)}
    run = TeamRun(form.make(Budget(steps=24), settings, form.group_size), team)
    run.join()
    return run


def order_of(method, **more):
    member, start = method.first_network
    return member, EvaluateNetwork(values=method.values, start=start, **more)


def evaluated(run, **more):
    member, order = order_of(run.method, **more)
    return run.trainers[member].execute(order)


@pytest.mark.parametrize("label", METHODS)
def test_a_run_that_is_looked_at_has_the_bits_of_one_that_is_not(label):
    plain, watched = team_run(label, average=0.9), team_run(label, average=0.9)
    while not plain.done:
        plain.round()
    steps = []
    while not watched.done:
        watched.round()
        if not watched.done and watched.method.stopped is None:
            report = evaluated(watched, network=True)
            assert isinstance(report, NetworkEvaluated)
            assert set(report.measures) == {"validation_loss", "validation_accuracy"}
            steps.append(report.training_step)
    assert steps == sorted(steps)
    assert steps[-1] == 24
    for member, report in plain.last.items():
        wanted, found = report.tensors, watched.last[member].tensors
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert watched.last[member].measures == report.measures


@pytest.mark.parametrize("label", METHODS)
def test_the_last_look_sees_the_network_that_comes_out(label):
    run, last = team_run(label, average=0.9), None
    while not run.done:
        if run.training_step == 24 and run.method.stopped is None:
            member, order = order_of(run.method, splits=("validation", "test"), network=True)
            last = run.trainers[member].execute(order)
        run.round()
    finish = run.last[0]
    assert last.measures == finish.measures
    assert all(torch.equal(last.network[name], tensor) for name, tensor in finish.network.items())


def test_the_values_of_the_splits_that_are_there_are_measured():
    run = team_run("self_tuning")
    run.round()
    report = evaluated(run, splits=("validation", "test"))
    assert {"validation_loss", "test_loss"} <= set(report.measures)
    assert not report.network
    assert report.training_step == 6
    assert evaluated(run).measures.keys() == {"validation_loss", "validation_accuracy"}


def test_a_state_that_is_not_kept_is_missing():
    run = team_run("self_tuning")
    run.round()
    report = run.trainers[0].execute(EvaluateNetwork(start="5.stay"))
    assert isinstance(report, StateMissing)
    assert "no state 5.stay" in report.message
    assert run.trainers[0].execute(FinishTraining(values=run.method.values)).training_step == 6
