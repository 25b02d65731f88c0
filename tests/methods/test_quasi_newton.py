"""The two-loop recursion on a quadratic function, and what is remembered."""

import pytest
import torch

from selftune.methods.quasi_newton import QuasiNewton, between


@pytest.fixture
def hessian():
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.T + torch.eye(5, dtype=torch.float64)


def walk(curvature, hessian, steps, seed=1):
    u = torch.zeros(len(hessian), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        curvature.step_from(u, hessian @ u)
        u = u + torch.randn(len(u), generator=generator, dtype=torch.float64)
        curvature.observe(u, hessian @ u)
    return u


def test_the_last_pair_satisfies_the_secant_equation(hessian):
    curvature = QuasiNewton(3)
    walk(curvature, hessian, 6)
    assert len(curvature.pairs) == 3
    moved, turned = curvature.pairs[-1]
    torch.testing.assert_close(curvature.direction(turned), moved)


def test_the_direction_descends(hessian):
    curvature = QuasiNewton(10)
    z = hessian @ walk(curvature, hessian, 8)
    assert curvature.direction(z) @ z > 0


def test_the_suggested_step_is_an_inverse_curvature(hessian):
    curvature = QuasiNewton(10)
    walk(curvature, hessian, 4)
    low, high = torch.linalg.eigvalsh(hessian)[[0, -1]].tolist()
    assert 1 / high <= curvature.barzilai_borwein() <= 1 / low


def test_negative_curvature_is_reported_and_not_remembered(hessian):
    curvature = QuasiNewton(10)
    u = walk(curvature, -hessian, 2)
    assert not curvature.pairs
    assert curvature.observe(u, -hessian @ u) is False


def test_a_sharper_hypergradient_replaces_the_looser_one(hessian):
    curvature = QuasiNewton(10)
    u = walk(curvature, hessian, 2)
    before = curvature.pairs[0]
    assert curvature.observe(u, hessian @ u + 1e-3)
    assert len(curvature.pairs) == 2
    assert curvature.pairs[0] is before
    torch.testing.assert_close(curvature.pairs[1][1], hessian @ curvature.pairs[1][0] + 1e-3)


def test_after_forgetting_there_is_no_last_step(hessian):
    curvature = QuasiNewton(10)
    u = walk(curvature, hessian, 2)
    curvature.forget()
    assert curvature.observe(u, u) is None
    assert curvature.barzilai_borwein() is None


@pytest.mark.parametrize("seed", range(5))
def test_held_coordinates_lie_between_zero_and_the_steepest_step(seed):
    p, steepest = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed))
    where = torch.arange(50) % 2 == 0
    held = between(p, steepest, where)
    assert (held * steepest >= 0)[where].all()
    assert (held.abs() <= steepest.abs())[where].all()
    assert torch.equal(held[~where], p[~where])
    inside = where & (p * steepest > 0) & (p.abs() <= steepest.abs())
    assert inside.any()
    assert torch.equal(held[inside], p[inside])
