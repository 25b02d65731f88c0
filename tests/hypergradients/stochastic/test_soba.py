import pytest
import torch
from finite_sums import LOWER, UPPER, D, N, Quadratic, normal, zeros

from selftune.hypergradients.stochastic import Sampler, Soba, advance, run


def test_full_batches_reach_the_optimum_at_condition_25():
    problem = Quadratic()
    eigenvalues = torch.linalg.eigvalsh(problem.hessian)
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(25)
    solver = Soba(inner_rate=0.3, outer_rate=0.1, decay=0.0)
    state = run(solver, problem.oracle, zeros(N), zeros(D), iterations=1500, batch_size=LOWER)
    assert problem.gap(state.u) < 1e-6
    x, u, v = problem.optimum()
    for found, wanted in ((state.x, x), (state.v, v), (state.u, u)):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_all_three_move_at_once_from_the_old_point():
    problem = Quadratic()
    x, u, v = normal(0, N), normal(1, D), normal(2, N)
    solver, sampler = Soba(inner_rate=0.1, outer_rate=0.02), Sampler(LOWER, UPPER, LOWER)
    state = solver.start(problem.oracle, x, u, sampler, v)
    state.iteration = 3
    solver.step(problem.oracle, state, *sampler.draw(1))
    gradient = problem.hessian @ (x - problem.response(u))
    wanted = (
        x - 0.05 * gradient,
        v - 0.05 * (problem.hessian @ v - problem.upper_grad_x(x)),
        u - 0.01 * (0.5 * u - problem.jacobian.T @ v),
    )
    for found, expected in zip((state.x, state.v, state.u), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_shrinking_steps_average_out_the_noise_that_constant_steps_keep():
    problem = Quadratic()
    x, u, v = problem.optimum()

    def hovering(decay):
        solver, sampler = Soba(inner_rate=0.05, outer_rate=0.05, decay=decay), Sampler(LOWER, UPPER, 2)
        state = solver.start(problem.oracle, x, u, sampler, v)
        gaps = [problem.gap(advance(solver, problem.oracle, state, sampler, 1).u) for _ in range(1000)]
        return sum(gaps[500:]) / 500

    assert hovering(0.5) < 0.3 * hovering(0.0)
