import torch
from finite_sums import LOWER, D, N, Quadratic, zeros

from selftune.hypergradients.stochastic import StocBiO, run

RATE = 0.2


def limit(problem, products):
    solver = StocBiO(inner_rate=RATE, outer_rate=0.5, linear_steps=products)
    return run(solver, problem.oracle, zeros(N), zeros(D), iterations=300, batch_size=LOWER).u


def test_the_limit_is_biased_as_the_truncated_series_says_and_the_bias_falls_with_its_length():
    problem = Quadratic()
    gaps = []
    for products in (5, 20):
        u = limit(problem, products)
        identity = torch.eye(N, dtype=torch.float64)
        cut = torch.linalg.matrix_power(identity - RATE * problem.hessian, products + 1)
        wanted = problem.stationary((identity - cut) @ torch.linalg.inv(problem.hessian))
        torch.testing.assert_close(u, wanted, rtol=1e-6, atol=1e-6)
        gaps.append(problem.gap(u))
    assert gaps[0] > 1e-4
    assert gaps[0] > 4 * gaps[1]
