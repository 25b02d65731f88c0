import pytest
import torch
from finite_sums import LOWER, UPPER, D, N, Quadratic, normal, zeros

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import Saba, Sampler, Soba, advance, run

RATES = {"inner_rate": 0.05, "outer_rate": 0.03}


def test_one_batch_equals_soba_with_constant_steps_to_the_last_bit():
    problem = Quadratic()
    x, u = normal(0, N), normal(1, D)
    sampler = Sampler(LOWER, UPPER, LOWER)
    solvers = Saba(**RATES), Soba(**RATES, decay=0.0)
    states = [solver.start(problem.oracle, x, u, sampler) for solver in solvers]
    for _ in range(100):
        for solver, state in zip(solvers, states, strict=True):
            advance(solver, problem.oracle, state, sampler, 1)
        for key in ("x", "v", "u"):
            assert torch.equal(getattr(states[0], key), getattr(states[1], key))


def moves_from_the_optimum(solver, problem):
    """Distances of one iteration from the optimum, for every pair of batches."""
    x, u, v = problem.optimum()
    sampler = Sampler(LOWER, UPPER, 4)
    for lower in sampler.lower:
        for upper in sampler.upper:
            state = solver.start(problem.oracle, x, u, sampler, v)
            solver.step(problem.oracle, state, [lower], upper)
            yield tuple(float(move.norm()) for move in (state.x - x, state.v - v, state.u - u))


def test_at_the_optimum_its_noise_vanishes_and_that_of_soba_does_not():
    problem = Quadratic()
    quiet = list(moves_from_the_optimum(Saba(**RATES), problem))
    noisy = list(moves_from_the_optimum(Soba(**RATES, decay=0.0), problem))
    assert len(quiet) == 9
    assert max(max(move) for move in quiet) < 1e-12
    assert min(min(move) for move in noisy) > 1e-4


def test_constant_steps_converge_where_those_of_soba_hover():
    problem = Quadratic()
    gaps = [
        problem.gap(run(solver, problem.oracle, zeros(N), zeros(D), iterations=2500, batch_size=4).u)
        for solver in (Saba(**RATES), Soba(**RATES, decay=0.0))
    ]
    assert gaps[0] < 1e-10
    assert gaps[1] > 1e-4


def test_tables_start_with_every_batch_at_the_start():
    problem = Quadratic()
    x, u, v = normal(0, N), normal(1, D), normal(2, N)
    sampler = Sampler(LOWER, UPPER, 5)
    state = Saba(**RATES).start(problem.oracle, x, u, sampler, v)
    wanted = (*problem.oracle.lower_direction(x, u, v), *problem.oracle.upper_gradients(x, u))
    for table, mean in zip(state.tables.values(), wanted, strict=True):
        torch.testing.assert_close(table.mean, mean, rtol=1e-12, atol=1e-12)
    assert [len(table.rows) for table in state.tables.values()] == [3, 3, 3, 2, 2]


def test_a_state_without_tables_is_refused():
    problem, sampler = Quadratic(), Sampler(LOWER, UPPER, 4)
    state = Soba(**RATES).start(problem.oracle, zeros(N), zeros(D), sampler)
    with pytest.raises(SettingError, match=r"state: has no tables; make it by Saba.start"):
        advance(Saba(**RATES), problem.oracle, state, sampler, 1)
