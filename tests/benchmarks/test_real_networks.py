"""The benchmark of real networks, on so little that it takes seconds."""

import sys

import pytest
import real_networks
import step_cost
import torch
import whole_runs
from networks import GPT
from torch import nn


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    batches = real_networks.tokens(4, 11, 8), real_networks.tokens(4, 11, 8)
    return step_cost.Problem(
        lambda: GPT(11, 8, width=16, depth=1, heads=2),
        batches,
        real_networks.token_losses,
        real_networks.EVERYWHERE,
    )


def test_tuning_costs_time_and_memory(tiny):
    found = step_cost.measure(tiny, rounds=1)
    assert found.hyperparameters == 2
    assert found.time > 1
    assert found.memory > 1
    assert 0.5 < found.responding <= 1


def test_the_peak_is_that_of_tensors_that_live_at_once():
    def make(problem):
        kept = torch.ones(1 << 20)  # 4 MiB

        def cycle():
            for _ in range(3):
                kept.add(1)  # as much again, one after the other

        return cycle

    assert step_cost.peak_bytes(make, None) == pytest.approx(2 * 4 * 2**20, rel=0.01)


@pytest.mark.parametrize("name", list(real_networks.NETWORKS))
def test_every_network_has_a_problem(name):
    problem = real_networks.NETWORKS[name](2)
    assert problem.batch[0][0].shape[0] == 2
    assert problem.settings()["weight_decay"]["strength"].start == 1e-3


@pytest.mark.parametrize("name", list(real_networks.CASES))
def test_every_network_has_a_small_case_that_is_in_double_precision(name):
    case = real_networks.CASES[name]()
    network = case.problem.build()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert sum(parameter.numel() for parameter in network.parameters()) < 25_000
    assert network(case.problem.batch[0][0]).isfinite().all()


@pytest.fixture
def perceptron():
    """A network of which the response can be learned within seconds."""
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Tanh(), nn.Linear(4, 10)).double()  # noqa: E731
    tuned = {**real_networks.SMOOTHING, **real_networks.decays(0.05, first=["1"], last=["3"])}
    problem = step_cost.Problem(build, real_networks.digits(48, 96), real_networks.image_losses, tuned)
    return whole_runs.Case(problem, settling=200, horizon=100, fit=250, learning_rate=0.01)


@pytest.mark.numerical
def test_learned_hypergradients_are_those_of_whole_runs(perceptron):
    found = whole_runs.truth(perceptron, estimates=16)
    assert found.names == (
        "label_smoothing.epsilon",
        "weight_decay.strength[first]",
        "weight_decay.strength[last]",
    )
    assert found.learned.shape == (16, 3)
    assert found.of_halfway > 0.95
    assert found.of_mean > 0.9


def test_the_command_prints_a_row_for_each_network(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["real_networks.py", "truth", "--network", "gpt", "--quick"])
    real_networks.main()
    assert "| gpt, 4 steps |" in capsys.readouterr().out
