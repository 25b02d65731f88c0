import math

import pytest
import torch
from problems import PROBLEMS, normal, quadratic, ridge, softmax

from selftune.errors import SettingError
from selftune.hypergradients.implicit import (
    corrected_hypergradient,
    fixed_point_hypergradient,
    implicit_hypergradient,
)
from selftune.hypergradients.linear_solvers import (
    ConjugateGradient,
    DeepConjugateDirection,
    FixedPoint,
    GradientNormalizedNewton,
    GreedyBlockCoordinateDescent,
    Minres,
    NegativeCurvature,
    NeumannSeries,
)
from selftune.hypergradients.update_maps import DifferentiableMap, GradientStep
from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.lower_level.smooth_objective import Constants, SmoothObjective

CG = ConjugateGradient()


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def solved(problem, u, solver=CG, tolerance=1e-13):
    return implicit_hypergradient(problem.oracle, problem.minimiser(u), u, solver, tolerance)


@pytest.mark.parametrize("seed", range(5))
def test_quadratic_matches_its_closed_form(seed):  # C2
    problem, u = quadratic(seed), normal(100 + seed, 3)
    closed = problem.oracle.objective
    found = implicit_hypergradient(problem.oracle, closed.response(u), u, CG, 1e-13)
    assert relative(found.value, closed.hypergradient(u)) < 1e-10
    optimum = closed.optimum()
    assert implicit_hypergradient(problem.oracle, closed.response(optimum), optimum, CG, 1e-13).norm < 1e-8


def ridge_closed_form(objective, u):
    (x, y), (x_val, y_val) = objective._train, objective._validation
    hessian = x.T @ x / len(x) + torch.diag(u.exp())
    w = torch.linalg.solve(hessian, x.T @ y / len(x))
    residual = x_val @ w - y_val
    q = torch.linalg.solve(hessian, x_val.T @ residual / len(x_val))
    return w, 0.5 * residual.square().mean(), -u.exp() * w * q


@pytest.mark.parametrize("seed", range(5))
def test_ridge_with_groups_matches_its_closed_form_and_finite_differences(seed):  # C3
    problem, u = ridge(seed), normal(seed, 4)
    w, _, gradient = ridge_closed_form(problem.oracle.objective, u)
    assert relative(implicit_hypergradient(problem.oracle, w, u, CG, 1e-14).value, gradient) < 1e-10
    for e, slope in zip(1e-5 * torch.eye(4, dtype=u.dtype), gradient, strict=True):
        values = [ridge_closed_form(problem.oracle.objective, u + sign * e)[1] for sign in (1, -1)]
        assert float(slope) == pytest.approx(float(values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_every_solver_gives_the_hypergradient(make):
    problem, u = make(), make().start(1)
    expected = problem.hypergradient(u)
    step = 1 / problem.oracle.constants(u).smoothness
    solvers = [
        CG,
        Minres(),
        NeumannSeries(step),
        DeepConjugateDirection(torch.nn.Identity()),
        GreedyBlockCoordinateDescent(block_size=2),
        GradientNormalizedNewton(),
    ]
    for solver in solvers:
        found = solved(problem, u, solver, tolerance=1e-11)
        assert found.reason == "tolerance"
        assert found.residual <= 1e-11
        assert relative(found.value, expected) < 1e-7


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_hypergradient_matches_finite_differences_of_the_upper_level(make):
    problem, u = make(2), make(2).start(3)
    v = normal(4, problem.oracle.d)

    def upper(at):
        return problem.oracle.upper(problem.minimiser(at), at)

    difference = (upper(u + 1e-4 * v) - upper(u - 1e-4 * v)) / 2e-4
    assert float(solved(problem, u).value @ v) == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_products_are_adjoint_and_symmetric(make):  # C1
    problem, oracle = make(), make().oracle
    u, x = problem.start(0), normal(1, oracle.n)
    v, p, w = normal(2, oracle.n), normal(3, oracle.n), normal(4, oracle.d)
    scale = float(v.norm() * w.norm())
    assert float(oracle.J(x, u, w) @ v) == pytest.approx(float(oracle.JT(x, u, v) @ w), abs=1e-12 * scale)
    product = oracle.hvp(x, u)
    assert float(product(v) @ p) == pytest.approx(float(product(p) @ v), abs=1e-12 * scale)


def test_a_loose_tolerance_is_tightened_so_that_zero_is_never_taken_for_stationary():  # C13
    problem, u = ridge(), ridge().start(0)
    x = problem.minimiser(u)
    found = implicit_hypergradient(problem.oracle, x, u, CG, tolerance=1e6)
    assert found.residual <= 0.1 * float(found.b.norm())
    assert found.norm > 0
    loose = implicit_hypergradient(problem.oracle, x, u, CG, 1e6, relative_tolerance=math.inf)
    assert loose.products == 0
    assert not loose.value.any()


def test_warm_start_saves_products_and_counts_are_true():
    problem, u = softmax(), softmax().start(0)
    x = problem.minimiser(u)
    cold = implicit_hypergradient(problem.oracle, x, u, CG, 1e-8)
    before = problem.oracle.counts.copy()
    warm = implicit_hypergradient(problem.oracle, x, u, CG, 1e-8, start=cold.q)
    spent = problem.oracle.counts - before
    assert (warm.products, spent.hvp, spent.jac, spent.grad) == (1, 1, 1, 0)
    assert torch.equal(warm.q, cold.q)
    assert cold.products > 5


def test_a_stationary_upper_level_gives_a_zero_hypergradient():
    problem = quadratic()
    objective, u = problem.oracle.objective, torch.zeros(3, dtype=torch.float64)
    objective.b1 = objective.a1 @ objective.response(u)  # b = 0 to rounding
    assert implicit_hypergradient(problem.oracle, objective.response(u), u, CG, 1e-6).norm < 1e-12


def test_zero_tolerance_is_refused():
    problem, u = quadratic(), quadratic().start(0)
    with pytest.raises(SettingError, match="tolerance"):
        implicit_hypergradient(problem.oracle, problem.oracle.start_x(), u, CG, 0.0)


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_fixed_point_of_any_map_gives_the_same_hypergradient(make):
    problem, u = make(), make().start(1)
    oracle, x = problem.oracle, problem.minimiser(u)
    expected = problem.hypergradient(u)
    length = 1 / oracle.constants(u).smoothness
    found = fixed_point_hypergradient(oracle, GradientStep(oracle, length), x, u, FixedPoint(), 1e-11)
    assert relative(found.value, expected) < 1e-7
    by_cg = fixed_point_hypergradient(oracle, GradientStep(oracle, length), x, u, CG, 1e-11)
    assert relative(by_cg.value, expected) < 1e-7

    def momentum(state, at):  # heavy ball: the Jacobian is not symmetric
        now, last = state.chunk(2)
        values = oracle.space.values(at)
        gradient = oracle.ravel(oracle.objective.lower_gradient(oracle.unravel(now), values))
        return torch.cat([now - length * gradient + 0.3 * (now - last), now])

    class ReadsFirst:  # the upper level sees the parameters, not the memory
        def upper_value_and_grad(self, state, at):
            value, gradient = oracle.upper_value_and_grad(state[: oracle.n], at)
            return value, torch.cat([gradient, torch.zeros_like(gradient)])

        def upper_grad_u(self, state, at):
            return oracle.upper_grad_u(state[: oracle.n], at)

    state = torch.cat([x, x])
    found = fixed_point_hypergradient(ReadsFirst(), DifferentiableMap(momentum), state, u, FixedPoint(), 1e-11)
    assert relative(found.value, expected) < 1e-7


@pytest.mark.parametrize("make", [ridge, softmax])
@pytest.mark.parametrize("seed", range(3))
def test_the_corrected_hypergradient_has_a_quadratic_error(make, seed):  # C8
    problem, u = make(seed), make(seed).start(seed)
    oracle, exact = problem.oracle, make(seed).hypergradient(u)
    minimiser = problem.minimiser(u)
    off, residual = normal(seed + 1, oracle.n), normal(seed + 2, oracle.n)

    def errors(eps):
        x = minimiser + eps * off / off.norm()
        # q with a residual of size eps, from a solver that stops there
        z = implicit_hypergradient(oracle, x, u, CG, 1e-13)
        q = problem.q(x, u, eps * residual / residual.norm())
        value = oracle.upper_grad_u(x, u) - oracle.JT(x, u, q)
        z = type(z)(value, q, z.upper, z.b, eps, 0, "tolerance")
        corrected = corrected_hypergradient(oracle, x, u, z, CG)
        assert corrected.change == pytest.approx(float((corrected.value - value).norm()))
        return float((value - exact).norm()), float((corrected.value - exact).norm())

    plain, corrected = errors(1e-1), errors(1e-3)
    assert plain[0] / corrected[0] < 300
    assert plain[1] / corrected[1] > 1000


class DependentUpper(SmoothObjective):
    """h = 0.5 (x - t)^2 + x^4 / 12, g = x^2 t: grad_u g changes with x."""

    hyperparameters = (Hyperparameter("bend.t", Interval(), 1.0, tuned=True, shared=True),)

    def parameters(self):
        return {"x": torch.zeros(1, dtype=torch.float64)}

    def lower(self, parameters, values):
        x = parameters["x"]
        return (0.5 * (x - values["bend.t"]).square() + x**4 / 12).sum()

    def upper(self, parameters, values):
        return (parameters["x"].square() * values["bend.t"]).sum()

    def constants(self, values, slopes):
        return Constants(1.0, 10.0, 10.0, 0.0, 10.0, upper_convex=False, certified=False)


def test_the_correction_covers_an_upper_level_that_depends_on_hyperparameters():
    from problems import Oracle, Problem

    problem = Problem(Oracle(DependentUpper()))
    u = torch.ones(1, dtype=torch.float64)
    exact, minimiser = problem.hypergradient(u), problem.minimiser(u)
    errors = []
    for eps in (1e-1, 1e-2, 1e-3):
        x = minimiser + eps
        z = implicit_hypergradient(problem.oracle, x, u, CG, 1e-13)
        errors.append(float((corrected_hypergradient(problem.oracle, x, u, z, CG).value - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.5)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.5)


class Saddle(DependentUpper):
    hyperparameters = (Hyperparameter("bend.t", Positive(), 1.0, tuned=True, shared=True),)

    def lower(self, parameters, values):
        return -(parameters["x"].square() * values["bend.t"]).sum()


def test_a_lower_level_that_curves_downwards_is_named():
    from problems import Oracle

    oracle = Oracle(Saddle())
    x, u = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    with pytest.raises(NegativeCurvature, match="smallest curvature met in 1 products is -2"):
        implicit_hypergradient(oracle, x, u, CG, 1e-6)
    assert implicit_hypergradient(oracle, x, u, Minres(), 1e-6).q == pytest.approx(-1.0)


@pytest.mark.parametrize("make", [quadratic, ridge])
def test_float32(make):
    problem, u = make(), make().start(1)
    single = make(dtype="float32").oracle
    found = implicit_hypergradient(single, problem.minimiser(u).float(), u.float(), CG, 1e-5)
    assert found.reason == "tolerance"
    assert found.value.dtype == torch.float32
    assert relative(found.value, problem.hypergradient(u).float()) < 1e-3
