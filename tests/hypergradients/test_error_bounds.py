import math

import pytest
import torch
from problems import PROBLEMS, generator, normal, quadratic, ridge, softmax
from rounding import rounding

from selftune.errors import SettingError
from selftune.hypergradients.error_bounds import (
    error_bound,
    lower_bound,
    paper_bound,
    tighter_bound,
    upper_bound,
)
from selftune.hypergradients.implicit import Hypergradient, implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.lower_level.smooth_objective import Constants

DRAWS = 200


def inexact(problem, u, x, delta, seed):
    """A hypergradient at x whose residual has norm delta."""
    direction = normal(seed, problem.oracle.n)
    q = problem.q(x, u, delta * direction / direction.norm())
    upper, b = problem.oracle.upper_value_and_grad(x, u)
    return Hypergradient(-problem.oracle.JT(x, u, q), q, upper, b, delta, 0, "tolerance")


def draws(make):
    """(problem, u, minimiser, x, e, delta, seed); e is the exact distance or the certificate in turn."""
    for seed in range(DRAWS):
        if seed % 20 == 0:
            problem = make(seed)
        u = problem.start(seed)
        e, delta = (10.0 ** (-6 * torch.rand(2, generator=generator(seed), dtype=torch.float64))).tolist()
        minimiser = problem.minimiser(u)
        direction = normal(seed + 1, problem.oracle.n)
        x = minimiser + e * direction / direction.norm()
        if seed % 4 == 0:
            e = float(problem.oracle.grad_x(x, u).norm()) / problem.oracle.constants(u).strong_convexity
        yield problem, u, minimiser, x, e, delta, seed


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_both_bounds_hold_on_every_draw(make):  # C9
    sizes = []
    for problem, u, minimiser, x, e, delta, seed in draws(make):
        found = inexact(problem, u, x, delta, seed)
        q = problem.q(minimiser, u)
        error = float((found.value + problem.oracle.JT(minimiser, u, q)).norm())
        bound = error_bound(problem.oracle, x, u, e, found)
        assert error <= bound.paper + 1e-11
        assert error <= bound.tighter + 1e-11
        assert bound.omega == min(bound.paper, bound.tighter)
        assert bound.certified
        sizes.append(bound.omega / error)
    assert sorted(sizes)[DRAWS // 2] < 100  # and they say something


@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_the_upper_level_lies_between_its_bounds(make):  # C10
    for problem, u, minimiser, x, e, _, _ in draws(make):
        exact = problem.oracle.upper(minimiser, u)
        g, b = problem.oracle.upper_value_and_grad(x, u)
        constants = problem.oracle.constants(u)
        assert lower_bound(g, float(b.norm()), e, constants) <= exact + 1e-12
        assert exact <= upper_bound(g, float(b.norm()), e, constants) + 1e-12


def test_the_lower_bound_of_an_upper_level_that_is_not_convex_counts_its_curvature():
    convex = Constants(1.0, 1.0, 0.0, 0.0, 8.0, upper_convex=True, certified=True)
    concave = Constants(1.0, 1.0, 0.0, 0.0, 8.0, upper_convex=False, certified=True)
    assert lower_bound(1.0, 2.0, 0.5, convex) == 0.0
    assert lower_bound(1.0, 2.0, 0.5, concave) == -1.0  # g = 1 - 2 s - 4 s^2 reaches it at s = 0.5
    assert upper_bound(1.0, 2.0, 0.5, convex) == 3.0


@pytest.mark.parametrize(
    ("L_H", "L_J", "L_g", "delta"),
    [(5.0, 0.0, 0.0, 0.0), (0.0, 5.0, 0.0, 0.0), (0.0, 0.0, 5.0, 0.0), (0.0, 0.0, 0.0, 0.5), (0.0, 5.0, 5.0, 0.5)],
)
def test_every_term_is_attained_in_one_dimension(L_H, L_J, L_g, delta):
    """The minimiser is 0 and x = e. There H = mu + L_H x, J = 1 + L_J x, b = 1 + L_g x, all as steep as allowed.

    So no bound may be smaller than the error here, whichever constant it comes from, and the tighter one is equal
    to it wherever the terms of the proof add up.
    """
    mu, e = 2.0, 0.1
    constants = Constants(mu, mu + L_H * e, L_H, L_J, L_g, upper_convex=True, certified=True)
    H, J, b = mu + L_H * e, 1 + L_J * e, 1 + L_g * e
    q = (b + delta) / H
    error = abs(-J * q + 1 / mu)
    assert paper_bound(e, delta, b, J, constants) >= error - rounding(error)
    assert tighter_bound(e, delta, q, J, constants) >= error - rounding(error)
    if not (L_J and (L_g or delta)):
        assert tighter_bound(e, delta, q, J, constants) == pytest.approx(error)


def test_bounds_count_an_upper_level_that_depends_on_hyperparameters():
    plain = Constants(1.0, 1.0, 0.0, 0.0, 1.0, upper_convex=True, certified=True)
    mixed = Constants(1.0, 1.0, 0.0, 0.0, 1.0, upper_convex=True, certified=True, upper_mixed_smoothness=5.0)
    for bound in (paper_bound, tighter_bound):
        assert bound(0.1, 0.0, 1.0, 1.0, mixed) - bound(0.1, 0.0, 1.0, 1.0, plain) == pytest.approx(0.5)


@pytest.mark.parametrize("make", [quadratic, ridge, softmax])
def test_the_bound_vanishes_with_the_errors_and_q_helps(make):
    problem = make()
    u = problem.start(0)
    x = problem.minimiser(u)
    z = implicit_hypergradient(problem.oracle, x, u, ConjugateGradient(), 1e-12)
    assert error_bound(problem.oracle, x, u, 0.0, z).omega < 1e-9
    bound = error_bound(problem.oracle, x, u, 1e-3, z)
    assert bound.tighter <= bound.paper * (1 + 1e-9)


@pytest.mark.parametrize("e", [-1.0, math.nan])
def test_an_error_that_is_no_distance_is_refused(e):
    problem = quadratic()
    x, u = problem.oracle.start_x(), problem.start(0)
    z = implicit_hypergradient(problem.oracle, x, u, ConjugateGradient(), 1e-6)
    with pytest.raises(SettingError, match="e: the error of x"):
        error_bound(problem.oracle, x, u, e, z)
