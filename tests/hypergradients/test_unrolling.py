import pytest
import torch
from problems import PROBLEMS, normal, ridge

from selftune.errors import SettingError
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import NeumannSeries
from selftune.hypergradients.unrolling import ForwardState, forward_unrolling, reverse_unrolling
from selftune.hypergradients.update_maps import DifferentiableMap, GradientStep


def gradient_map(oracle, length):
    """The gradient step as plain differentiable code."""

    def step(x, u):
        values = oracle.space.values(u)
        return x - length * oracle.ravel(oracle.objective.lower_gradient(oracle.unravel(x), values))

    return step


@pytest.fixture(params=PROBLEMS.values(), ids=PROBLEMS)
def problem(request):
    return request.param()


@pytest.mark.parametrize("terms", [1, 2, 7, 40])
def test_neumann_terms_equal_reverse_steps_from_the_fixed_point(problem, terms):  # C5
    u = problem.start(0)
    oracle, x = problem.oracle, problem.minimiser(u)
    length = 1 / oracle.constants(u).smoothness
    unrolled = reverse_unrolling(oracle, GradientStep(oracle, length), x, u, terms).value
    series = implicit_hypergradient(oracle, x, u, NeumannSeries(length, max_products=terms), 1e-12)
    assert series.reason == "cap"
    assert float((series.value - unrolled).norm() / unrolled.norm()) < 1e-10


@pytest.mark.parametrize("steps", [0, 1, 2, 9, 16])
def test_modes_maps_checkpoints_and_autograd_agree(problem, steps):
    u = problem.start(1)
    oracle, x = problem.oracle, normal(2, problem.oracle.n)
    length = 0.9 / oracle.constants(u).smoothness
    step = gradient_map(oracle, length)
    leaf, path = u.clone().requires_grad_(), x
    for _ in range(steps):
        path = step(path, leaf)
    upper = oracle.objective.upper(oracle.unravel(path), oracle.space.values(leaf))
    expected = torch.zeros_like(u)
    if steps:
        (expected,) = torch.autograd.grad(upper, leaf)
    found = [
        mode(oracle, update, x, u, steps, *options)
        for update in (GradientStep(oracle, length), DifferentiableMap(step))
        for mode, options in (
            (forward_unrolling, ()),
            (reverse_unrolling, ()),
            (reverse_unrolling, (4,)),
            (reverse_unrolling, (100,)),
        )
    ]
    for unrolled in found:
        torch.testing.assert_close(unrolled.value, expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(unrolled.x, path.detach(), rtol=1e-12, atol=1e-14)
        assert unrolled.upper == pytest.approx(float(upper.detach()), rel=1e-12)
        assert not unrolled.value.requires_grad
        assert not unrolled.x.requires_grad


def test_many_steps_reach_the_implicit_hypergradient(problem):
    u = problem.start(1)
    oracle = problem.oracle
    update = GradientStep(oracle, 1 / oracle.constants(u).smoothness)
    expected = problem.hypergradient(u)
    errors = [
        float((reverse_unrolling(oracle, update, oracle.start_x(), u, steps).value - expected).norm())
        for steps in (10, 100, 1000)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6 * float(expected.norm())


def test_forward_mode_online_carries_its_tangents():
    problem = ridge()
    u, oracle = problem.start(0), problem.oracle
    update = GradientStep(oracle, 1 / oracle.constants(u).smoothness)
    state = ForwardState.start(oracle.start_x(), u)
    for _ in range(5):
        state = state.step(update, u)
    whole = forward_unrolling(oracle, update, oracle.start_x(), u, 5)
    assert torch.equal(state.hypergradient(oracle, u)[0], whole.value)


def test_products_spent_are_counted():
    problem = ridge()
    u, oracle = problem.start(0), problem.oracle
    update = GradientStep(oracle, 0.1)
    for run, expected in (
        (lambda: reverse_unrolling(oracle, update, oracle.start_x(), u, 9), (9, 9, 9)),
        (lambda: reverse_unrolling(oracle, update, oracle.start_x(), u, 9, 3), (15, 9, 9)),
        (lambda: forward_unrolling(oracle, update, oracle.start_x(), u, 9), (9, 36, 36)),
    ):
        before = oracle.counts.copy()
        run()
        spent = oracle.counts - before
        assert (spent.grad, spent.hvp, spent.jac) == expected


def test_bad_settings_are_refused():
    problem = ridge()
    oracle, u = problem.oracle, problem.start(0)
    update = GradientStep(oracle, 0.1)
    with pytest.raises(SettingError, match="steps"):
        reverse_unrolling(oracle, update, oracle.start_x(), u, -1)
    with pytest.raises(SettingError, match="steps"):
        forward_unrolling(oracle, update, oracle.start_x(), u, -1)
    with pytest.raises(SettingError, match="checkpoint_every"):
        reverse_unrolling(oracle, update, oracle.start_x(), u, 3, 0)
