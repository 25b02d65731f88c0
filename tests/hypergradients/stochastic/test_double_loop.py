import pytest
import torch
from finite_sums import LOWER, UPPER, D, N, Quadratic, normal

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import Amigo, Sampler, StocBiO

SETTINGS = {"inner_rate": 0.1, "outer_rate": 0.02}


@pytest.mark.parametrize("kind", [Amigo, StocBiO])
def test_each_stage_takes_its_own_batches_at_the_new_x(kind):
    problem = Quadratic()
    x, u, v = normal(0, N), normal(1, D), normal(2, N)
    solver, sampler = kind(**SETTINGS, inner_steps=2, linear_steps=2), Sampler(LOWER, UPPER, 3)
    lower, upper = [sampler.lower[number] for number in (0, 1, 2, 3, 1)], sampler.upper[2]
    state = solver.start(problem.oracle, x, u, sampler, v)
    solver.step(problem.oracle, state, lower, upper)

    oracle, index = problem.oracle, [batch.index for batch in lower]
    for i in index[:2]:
        x = x - 0.1 * oracle.grad_x(x, u, i)
    b, in_u = oracle.upper_gradients(x, u, upper.index)
    hessians = [problem.a[i].T @ problem.a[i] / 3 for i in index[2:4]]
    if kind is Amigo:
        for hessian in hessians:
            v = v - 0.1 * (hessian @ v - b)
    else:
        one = b - 0.1 * hessians[0] @ b
        v = 0.1 * (b + one + (one - 0.1 * hessians[1] @ one))
    u = u - 0.02 * (in_u + problem.c[index[4]].T @ problem.a[index[4]] @ v / 3)
    for found, wanted in ((state.x, x), (state.v, v), (state.u, u)):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [Amigo, StocBiO])
@pytest.mark.parametrize("key", ["inner_steps", "linear_steps"])
def test_steps_are_positive(kind, key):
    with pytest.raises(SettingError, match=f"{key}: must be at least 1, got 0"):
        kind(**SETTINGS, **{key: 0})


@pytest.mark.parametrize("kind", [Amigo, StocBiO])
def test_ten_steps_of_each_are_the_default(kind):
    assert kind(**SETTINGS).inner_steps == kind(**SETTINGS).linear_steps == 10
    assert kind(**SETTINGS).decay == 0
