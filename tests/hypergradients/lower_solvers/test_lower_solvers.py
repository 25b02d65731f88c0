"""One test of what every lower-level solver promises, over every solver and every objective."""

from __future__ import annotations

import itertools

import pytest
import torch
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from smooth_problems import PROBLEMS, Plain, draw, normal

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import LimitedMemoryBFGS, Newton, ProximalGradient, lower_solvers
from selftune.hypergradients.oracle import Counts, Oracle
from selftune.lower_level.smooth_objective import NotStronglyConvex

# distances to a computed minimiser are exact to this many times the machine's accuracy
ROUNDING = 1e-11


@pytest.fixture(params=lower_solvers)
def solver(request):
    return lower_solvers[request.param]()


@pytest.fixture(params=PROBLEMS)
def problem(request):
    """An oracle, hyperparameters, a start, and the minimiser."""
    oracle = Oracle(PROBLEMS[request.param]())
    x, u = draw(oracle, 1, spread=0.5)
    exact = Newton().solve(oracle, u, x, 1e-13)
    assert exact.error < 1e-11
    oracle.counts = Counts()
    return oracle, u, x, exact.x


def distance(solution, exact):
    return float((solution.x - exact).norm())


@pytest.mark.parametrize("tolerance", [1.0, 1e-3, 1e-8])
def test_the_certificate_holds(solver, problem, tolerance):
    oracle, u, start, exact = problem
    solution = solver.solve(oracle, u, start, tolerance)
    assert solution.reason == "tolerance"
    assert distance(solution, exact) <= solution.error * (1 + 1e-9) + ROUNDING
    assert solution.error <= tolerance
    torch.testing.assert_close(solution.gradient, oracle.grad_x(solution.x, u), rtol=1e-9, atol=1e-12)
    assert solution.error == pytest.approx(float(solution.gradient.norm()) / oracle.constants(u).strong_convexity)


def test_it_counts_what_it_spends(solver, problem):
    oracle, u, start, _ = problem
    solution = solver.solve(oracle, u, start, 1e-6)
    assert solution.iterations == oracle.counts.grad + oracle.counts.hvp == oracle.counts.work
    assert oracle.counts.up == 0


@pytest.mark.parametrize("cap", [1, 2, 5])
def test_a_cap_is_reported_with_the_error_reached(solver, problem, cap):
    oracle, u, start, exact = problem
    solution = solver.solve(oracle, u, start, 1e-10, max_iterations=cap)
    assert solution.reason == "cap"
    assert solution.error > 1e-10
    assert distance(solution, exact) <= solution.error + ROUNDING
    assert cap <= solution.iterations <= cap + 2


def test_it_ends_at_the_floor(solver, problem):
    oracle, u, start, exact = problem
    solution = solver.solve(oracle, u, start, 1e-30)
    assert solution.reason == "floor" or solution.error == 0
    assert solution.iterations < 20_000
    assert distance(solution, exact) < 1e-8


def test_a_warm_start_at_the_solution_costs_one_gradient(solver, problem):
    oracle, u, start, _ = problem
    first = solver.solve(oracle, u, start, 1e-6)
    again = solver.solve(oracle, u, first.x, 1e-6)
    assert again.iterations == 1
    assert torch.equal(again.x, first.x)


def test_a_near_start_is_cheaper_than_a_far_one(solver, problem):
    oracle, u, start, exact = problem
    near = exact + 1e-4 * (start - exact)
    far = solver.solve(oracle, u, exact + 100 * (start - exact), 1e-8)
    assert solver.solve(oracle, u, near, 1e-8).iterations <= far.iterations


def test_the_start_is_left_alone(solver, problem):
    oracle, u, start, _ = problem
    before = start.clone()
    solver.solve(oracle, u, start, 1e-6)
    assert torch.equal(start, before)


def test_early_rejection_sees_true_certificates_and_ends_the_solve(solver, problem):
    oracle, u, start, exact = problem
    seen = []

    def reject(x, error):
        seen.append(error)
        assert float((x - exact).norm()) <= error + ROUNDING
        return len(seen) == 2

    solution = solver.solve(oracle, u, start, 1e-9, reject=reject)
    if solution.reason == "rejected":
        assert len(seen) == 2
        assert solution.error == seen[1]
    else:
        assert len(seen) < 2
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))


def test_a_test_that_never_rejects_changes_nothing(solver, problem):
    oracle, u, start, _ = problem
    plain = solver.solve(oracle, u, start, 1e-6)
    asked = solver.solve(oracle, u, start, 1e-6, reject=lambda x, error: False)
    assert torch.equal(plain.x, asked.x)
    assert plain.iterations == asked.iterations


def test_same_arguments_same_result(solver, problem):
    oracle, u, start, _ = problem
    first, second = (solver.solve(oracle, u, start, 1e-7) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert first.iterations == second.iterations


def test_float32(solver):
    oracle = Oracle(QuadraticBilevel(dtype="float32"))
    u = oracle.start_u()
    exact = oracle.objective.response(u)
    solution = solver.solve(oracle, u, oracle.start_x(), 1e-2)
    assert solution.reason == "tolerance"
    assert distance(solution, exact) <= solution.error + 1e-4
    floor = solver.solve(oracle, u, oracle.start_x(), 1e-12)
    assert floor.reason == "floor"
    assert distance(floor, exact) < 1e-2


def test_the_certificate_holds_on_random_quadratics(solver):
    for seed in range(100):
        condition = 10 ** (seed % 4)
        problem = QuadraticBilevel(parameter_count=6, hyperparameter_count=2, condition=condition, seed=seed)
        oracle = Oracle(problem)
        u = normal(seed, 2)
        exact = problem.response(u)
        for tolerance, cap in ((1e-2, 20_000), (1e-9, 20_000), (1e-9, 1 + seed % 7)):
            solution = solver.solve(oracle, u, oracle.start_x(), tolerance, cap)
            assert distance(solution, exact) <= solution.error * (1 + 1e-9) + 1e-12 * condition
            assert solution.reason == ("tolerance" if solution.error <= tolerance else "cap")


@pytest.mark.parametrize("tolerance", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_senseless_tolerance_is_refused(solver, tolerance):
    oracle = Oracle(Plain())
    with pytest.raises(SettingError, match="tolerance: must be a positive number"):
        solver.solve(oracle, oracle.start_u(), oracle.start_x(), tolerance)


def test_a_senseless_cap_is_refused(solver):
    oracle = Oracle(Plain())
    with pytest.raises(SettingError, match="max_iterations: must be at least 1"):
        solver.solve(oracle, oracle.start_u(), oracle.start_x(), 1e-3, 0)


def test_senseless_memory_is_refused():
    with pytest.raises(SettingError, match="memory: must be at least 1"):
        LimitedMemoryBFGS(memory=0)


def test_a_start_that_is_not_finite_is_an_error(solver):
    oracle = Oracle(Plain())
    with pytest.raises(FloatingPointError, match="not finite"):
        solver.solve(oracle, oracle.start_u(), torch.full((7,), float("nan"), dtype=torch.float64), 1e-3)


def test_without_strong_convexity_nothing_is_solved(solver):
    oracle = Oracle(Plain())
    u = oracle.start_u()
    u[:2] = -1e6  # strengths of zero
    with pytest.raises(NotStronglyConvex, match="smallest curvature met is 0"):
        solver.solve(oracle, u, oracle.start_x(), 1e-3)


# Terms that are not smooth -----------------------------------------------------------------------------


class Lasso(QuadraticBilevel):
    """The quadratic problem plus the sum of the absolute parameters."""

    def proximal(self, parameters, values, step):
        x = parameters["x"]
        return {"x": x.sign() * (x.abs() - step).clamp(min=0)}


@pytest.fixture
def lasso():
    oracle = Oracle(Lasso(parameter_count=8, hyperparameter_count=2))
    return oracle, 3 * normal(2, 2)


def subgradient_distance(gradient, x):
    """Distance of zero to the subdifferential of the lasso at x."""
    zero = x == 0
    inside = (gradient[zero].abs() - 1).clamp(min=0)
    return float(torch.cat([inside, gradient[~zero] + x[~zero].sign()]).norm())


def test_the_proximal_certificate_holds(lasso):
    oracle, u = lasso
    exact = ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-12)
    assert (exact.x == 0).any()
    assert (exact.x != 0).any()
    assert subgradient_distance(oracle.grad_x(exact.x, u), exact.x) < 1e-12
    for tolerance in (1.0, 1e-2, 1e-6):
        solution = ProximalGradient().solve(oracle, u, oracle.start_x(), tolerance)
        assert solution.reason == "tolerance"
        assert distance(solution, exact.x) <= solution.error <= tolerance
        assert (
            subgradient_distance(oracle.grad_x(solution.x, u), solution.x)
            <= float(solution.gradient.norm()) + 1e-12
        )


@pytest.mark.parametrize("cap", [1, 2, 5])
def test_the_proximal_cap_is_reported(lasso, cap):
    oracle, u = lasso
    exact = ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-12)
    oracle.counts = Counts()
    solution = ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-9, cap)
    assert solution.reason == "cap"
    assert distance(solution, exact.x) <= solution.error
    assert solution.iterations == oracle.counts.work <= cap + 1


def test_the_proximal_floor_ends_the_solve(lasso):
    oracle, u = lasso
    solution = ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-30)
    assert solution.reason == "floor" or solution.error == 0
    assert solution.iterations < 20_000


def test_the_proximal_solve_is_rejected_early(lasso):
    oracle, u = lasso
    asked = []
    solution = ProximalGradient().solve(
        oracle, u, oracle.start_x(), 1e-9, reject=lambda x, error: asked.append(error) or error < 0.1
    )
    assert solution.reason == "rejected"
    assert solution.error == asked[-1] < 0.1


@pytest.mark.parametrize("name", sorted(set(lower_solvers) - {"proximal_gradient"}))
def test_other_solvers_refuse_a_term_that_is_not_smooth(lasso, name):
    oracle, u = lasso
    with pytest.raises(SettingError, match="solve it with proximal_gradient"):
        lower_solvers[name]().solve(oracle, u, oracle.start_x(), 1e-3)
