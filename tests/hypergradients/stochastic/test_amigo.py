import torch
from finite_sums import LOWER, D, N, Quadratic, zeros

from selftune.hypergradients.stochastic import Amigo, run


def test_full_batches_reach_the_optimum_at_condition_25():
    problem = Quadratic()
    solver = Amigo(inner_rate=0.2, outer_rate=0.5)
    state = run(solver, problem.oracle, zeros(N), zeros(D), iterations=200, batch_size=LOWER)
    assert problem.gap(state.u) < 1e-6
    for found, wanted in zip((state.x, state.u, state.v), problem.optimum(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
