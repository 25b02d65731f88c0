import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel

from selftune.hypergradients.oracle import Oracle


@pytest.mark.parametrize("condition", [1.0, 25.0, 1e4])
def test_the_condition_is_the_one_asked_for(condition):
    oracle = Oracle(QuadraticBilevel(parameter_count=8, hyperparameter_count=3, condition=condition))
    constants = oracle.constants(oracle.start_u())
    product = oracle.hvp(oracle.start_x(), oracle.start_u())
    eigenvalues = torch.linalg.eigvalsh(torch.stack([product(row) for row in torch.eye(8, dtype=torch.float64)]))
    assert constants.condition == pytest.approx(condition)
    assert eigenvalues[0].item() == pytest.approx(constants.strong_convexity)
    assert eigenvalues[-1].item() == pytest.approx(constants.smoothness)


def test_the_optimum_is_the_best_response():
    problem = QuadraticBilevel()
    oracle = Oracle(problem)
    best = oracle.upper(problem.response(problem.optimum()), problem.optimum())
    for seed in range(5):
        u = problem.optimum() + 0.1 * torch.randn(
            10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        assert oracle.upper(problem.response(u), u) > best


def test_without_noise_the_optimum_explains_everything():
    problem = QuadraticBilevel(noise=0.0)
    u = problem.optimum()
    scale = problem.condition * problem.response(u).norm()
    assert Oracle(problem).upper(problem.response(u), u) < squared_rounding(scale, terms=problem.parameter_count)
