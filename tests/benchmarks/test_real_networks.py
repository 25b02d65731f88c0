"""The benchmark of real networks, on so little that it takes seconds."""

import pytest
import real_networks
import step_cost
import torch
from networks import GPT


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
