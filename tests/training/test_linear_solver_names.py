"""``linear_solver`` of smooth methods: every name solves the same systems."""

from typing import get_args

import pytest
import torch

from selftune import SettingError, tasks, tune
from selftune.hypergradients.linear_solvers import DeepConjugateDirection
from selftune.listener import Listener
from selftune.methods import Implicit
from selftune.training.runner import run_in_process
from selftune.training.smooth_trainer import LinearSolverName, SmoothTrainerFactory


def first_step(**settings):
    """The hypergradient at the start."""
    return tune(tasks["ridge"](), method="implicit", steps=1, **settings).trajectory[0].hypergradient


@pytest.fixture(scope="module")
def expected():
    return first_step(linear_solver="conjugate_gradient")


@pytest.mark.parametrize("name", get_args(LinearSolverName)[1:])
def test_another_solver_goes_the_same_way(name, expected):
    found = first_step(linear_solver=name)
    assert torch.cosine_similarity(found, expected, dim=0) > 0.95  # the first step asks for little accuracy
    assert not torch.equal(found, expected), "it is another solver"


def test_an_unknown_solver_is_refused_before_anything_is_solved():
    with pytest.raises(SettingError, match=r"linear_solver.*minres"):
        SmoothTrainerFactory(tasks["ridge"](), linear_solver="minre")
    with pytest.raises(SettingError, match="linear_solver"):
        tune(tasks["ridge"](), method="implicit", steps=3, linear_solver="fixed_point")


class Steps(Listener):
    def __init__(self):
        self.steps = []

    def hyper_step(self, step):
        self.steps.append(step)


def test_a_solver_with_a_network_of_ones_own_is_given_to_the_trainers(expected):
    proposals = []

    def network(residual):
        proposals.append(residual.norm())
        return residual

    factory = SmoothTrainerFactory(tasks["ridge"](), linear_solver=DeepConjugateDirection(network))
    heard = Steps()
    run_in_process(Implicit(steps=1), {0: factory(0)}, heard)
    assert torch.cosine_similarity(heard.steps[0].hypergradient, expected, dim=0) > 0.95
    torch.testing.assert_close(torch.stack(proposals), torch.ones(len(proposals)).to(proposals[0]))
