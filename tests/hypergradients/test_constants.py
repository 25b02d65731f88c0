"""The constants that objectives call proven are never violated by random draws."""

from __future__ import annotations

import pytest
import torch
from rounding import rounding
from smooth_problems import PROBLEMS, draw, hessian, jacobian, normal

from selftune.hypergradients.oracle import Oracle

SLACK = 1 + 1e-9
EXACT_NORMS = {name for name in PROBLEMS if name not in ("field_of_experts", "plain")}


@pytest.fixture(params=PROBLEMS)
def oracle(request):
    return Oracle(PROBLEMS[request.param]())


def points(oracle):
    """Random hyperparameters and pairs of points, near each other and far."""
    for seed in range(12):
        spread = (0.05, 0.3, 1.0)[seed % 3]
        x, u = draw(oracle, seed, spread)
        apart = (1e-4, 1e-2, 1.0)[seed // 4] * normal(seed + 500, oracle.n)
        yield x, x + apart, u, float(apart.norm())


def spectral(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


def test_curvature_lies_between_the_bounds(oracle):
    for x, _, u, _ in points(oracle):
        constants = oracle.constants(u)
        eigenvalues = torch.linalg.eigvalsh(hessian(oracle, x, u))
        assert eigenvalues[0] * SLACK >= constants.strong_convexity
        assert eigenvalues[-1] <= constants.smoothness * SLACK


def test_the_hessian_is_lipschitz(oracle):
    for x, y, u, distance in points(oracle):
        here, there = hessian(oracle, x, u), hessian(oracle, y, u)
        nothing = rounding(spectral(here))
        assert spectral(here - there) <= oracle.constants(u).hessian_lipschitz * distance * SLACK + nothing


def test_the_jacobian_is_lipschitz(oracle):
    for x, y, u, distance in points(oracle):
        change = spectral(jacobian(oracle, x, u) - jacobian(oracle, y, u))
        assert change <= oracle.constants(u).jacobian_lipschitz * distance * SLACK + 1e-13


def test_the_upper_level_is_smooth_and_convex(oracle):
    for x, y, u, distance in points(oracle):
        constants = oracle.constants(u)
        (value, gradient), (other, other_gradient) = (oracle.upper_value_and_grad(at, u) for at in (x, y))
        assert float((gradient - other_gradient).norm()) <= constants.upper_smoothness * distance * SLACK
        assert constants.upper_convex
        assert other >= value + float(gradient @ (y - x)) - 1e-12
        mixed = oracle.upper_grad_u(x, u) - oracle.upper_grad_u(y, u)
        assert float(mixed.norm()) <= constants.upper_mixed_smoothness * distance * SLACK


@pytest.mark.parametrize("name", sorted(EXACT_NORMS))
def test_the_norm_of_the_jacobian_is_exact(name):
    oracle = Oracle(PROBLEMS[name]())
    for x, _, u, _ in points(oracle):
        assert oracle.norm_J(x, u) == pytest.approx(spectral(jacobian(oracle, x, u)), rel=1e-9)


@pytest.mark.parametrize("name", sorted(set(PROBLEMS) - EXACT_NORMS))
def test_an_estimated_norm_is_not_called_certified(name):
    oracle = Oracle(PROBLEMS[name]())
    assert not oracle.constants(oracle.start_u()).certified
