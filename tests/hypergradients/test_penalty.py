import math

import pytest
import torch
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising
from smooth_problems import PROBLEMS, SMALL, Plain, normal, relative

from selftune.errors import SettingError
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import AcceleratedGradient, Newton
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.penalty import Penalized, penalty_hypergradient
from selftune.lower_level.smooth_objective import NotStronglyConvex

REGRESSIONS = [name for name in PROBLEMS if name.startswith(("quadratic", "ridge", "softmax"))]


def exact(oracle, u):
    """Upper level and hypergradient by implicit differentiation at the solution."""
    x = Newton().solve(oracle, u, oracle.start_x(), 1e-12).x
    found = implicit_hypergradient(oracle, x, u, ConjugateGradient(), 1e-12)
    return found.upper, found.value


def penalized(oracle, u, sigma, tolerance=1e-12, solver=None, start=None):
    return penalty_hypergradient(oracle, u, sigma, solver or Newton(), tolerance, start)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", REGRESSIONS)
def test_errors_fall_ten_fold_when_sigma_does(name, seed):  # C20
    oracle = Oracle(PROBLEMS[name]())
    u = oracle.start_u() + 0.5 * normal(seed, oracle.d)
    upper, gradient = exact(oracle, u)
    found = [penalized(oracle, u, sigma) for sigma in (1e-3, 1e-4)]
    of_gradient = [float((z.value - gradient).norm()) for z in found]
    of_value = [abs(z.psi - upper) for z in found]
    assert of_gradient[0] / of_gradient[1] == pytest.approx(10, rel=0.1)
    assert of_value[0] / of_value[1] == pytest.approx(10, rel=0.1)
    assert relative(found[1].value, gradient) < 0.02


@pytest.mark.parametrize("sigma", [1.0, 0.05])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_is_that_of_psi(name, sigma):
    oracle = Oracle(PROBLEMS[name]())
    u, v = oracle.start_u() + 0.2 * normal(1, oracle.d), normal(2, oracle.d)
    found = penalized(oracle, u, sigma, 1e-11)
    ahead, behind = (penalized(oracle, u + t * v, sigma, 1e-11).psi for t in (1e-4, -1e-4))
    assert float(found.value @ v) == pytest.approx((ahead - behind) / 2e-4, rel=1e-5, abs=1e-9)


def test_the_error_of_inexact_solutions_is_bounded():
    oracle = Oracle(PROBLEMS["ridge_per_feature"]())
    for seed in range(20):
        u, sigma = normal(seed, oracle.d), 0.1
        closest = penalized(oracle, u, sigma)
        for tolerance in (1e-2, 1e-3, 1e-4):
            rough = penalized(oracle, u, sigma, tolerance, AcceleratedGradient())
            error = 0.0
            for solution in (
                rough.lower,
                rough.penalized,
            ):  # by the distance to the minimiser, ‖J‖ on the way there
                largest = oracle.norm_J(solution.x, u) + float(u.exp().max()) * solution.error
                error += largest * solution.error / sigma
            assert float((rough.value - closest.value).norm()) <= error


def test_a_quadratic_agrees_with_its_closed_form():
    problem = PROBLEMS["quadratic"]()
    oracle, u, sigma = Oracle(problem), normal(0, 5), 0.3
    h = problem.a2.T @ problem.a2
    hessian = h + sigma * problem.a1.T @ problem.a1
    right = problem.a2.T @ (problem.b2 - problem.a3 @ u)
    y = torch.linalg.solve(hessian, right + sigma * problem.a1.T @ problem.b1)
    w = torch.linalg.solve(h, right)
    found = penalized(oracle, u, sigma)
    torch.testing.assert_close(found.penalized.x, y)
    torch.testing.assert_close(found.lower.x, w)
    torch.testing.assert_close(found.value, problem.a3.T @ problem.a2 @ (y - w) / sigma)


def test_no_second_derivatives_are_taken_and_every_gradient_is_counted(monkeypatch):
    oracle = Oracle(PROBLEMS["softmax_one"]())
    for product in ("hvp", "JT", "J"):
        monkeypatch.setattr(Oracle, product, lambda *_: pytest.fail("a second derivative"))
    u = oracle.start_u()
    cold = penalized(oracle, u, 0.1, 1e-6, AcceleratedGradient())
    assert oracle.counts.work == cold.lower.iterations + cold.penalized.iterations + 2
    before = oracle.counts.copy()
    start = cold.lower.x, cold.penalized.x
    warm = penalized(oracle, u, 0.1, 1e-6, AcceleratedGradient(), start)
    assert (oracle.counts - before).work == 4
    assert torch.equal(warm.value, cold.value)


def test_constants_of_the_penalized_problem_hold():
    for name in ("quadratic", "ridge_one", "softmax_per_weight"):
        problem = PROBLEMS[name]()
        oracle = Oracle(Penalized(problem, 0.7))
        u = oracle.start_u()
        constants = oracle.constants(u)
        product = oracle.hvp(normal(0, oracle.n), u)
        dense = torch.stack([product(row) for row in torch.eye(oracle.n, dtype=torch.float64)])
        curvatures = torch.linalg.eigvalsh(dense)
        assert constants.strong_convexity <= float(curvatures[0]) * (1 + 1e-9)
        assert constants.smoothness >= float(curvatures[-1]) * (1 - 1e-9)
        assert not constants.certified


class Curved(Plain):
    """An upper level that is not convex."""

    def upper(self, parameters, values):
        return -super().upper(parameters, values)

    def constants(self, values, slopes):
        return type(was := super().constants(values, slopes))(**vars(was) | {"upper_convex": False})


def test_a_sigma_that_outweighs_the_convexity_of_h_is_refused():
    oracle = Oracle(Curved())
    constants = oracle.constants(oracle.start_u())
    limit = constants.strong_convexity / constants.upper_smoothness
    assert math.isfinite(penalized(oracle, oracle.start_u(), 0.9 * limit, 1e-8).psi)
    with pytest.raises(NotStronglyConvex):
        penalized(oracle, oracle.start_u(), 1.1 * limit)


class Sparse(TotalVariationDenoising):
    def proximal(self, parameters, values, step):
        return parameters


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_sigma_that_makes_no_sense_is_refused(sigma):
    oracle = Oracle(PROBLEMS["quadratic"]())
    with pytest.raises(SettingError, match="must be a positive number") as error:
        penalized(oracle, oracle.start_u(), sigma)
    assert error.value.key == "sigma"


def test_a_term_that_is_not_smooth_is_refused():
    oracle = Oracle(Sparse(**SMALL))
    with pytest.raises(SettingError, match="needs a smooth lower level"):
        penalized(oracle, oracle.start_u(), 0.1)
