import pytest
import torch
from rounding import squared_rounding
from selftune.objectives.regularizers.representation.barlow_twins import barlow_twins


def test_definition(draw):
    a, b = draw(7, 3), draw(7, 3)
    standard = [(z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-3).sqrt() for z in (a, b)]
    c = standard[0].T @ standard[1] / 7
    expected = sum((1 - c[i, j]) ** 2 if i == j else 0.3 * c[i, j] ** 2 for i in range(3) for j in range(3))
    torch.testing.assert_close(barlow_twins(a, b, 0.3, 1e-3), expected)


def test_equal_decorrelated_views_cost_nothing(draw):
    columns, _ = torch.linalg.qr(torch.cat([torch.ones(8, 1, dtype=torch.float64), draw(8, 3)], dim=1))
    eps = 1e-12  # added to variances of 1 / 8, so the diagonal is 8 * eps off 1
    terms = 9 * squared_rounding() + 3 * (8 * eps) ** 2
    assert barlow_twins(columns[:, 1:], columns[:, 1:], 1.0, eps).item() < 2 * terms


def test_constant_embeddings_cost_their_dimension_with_a_finite_gradient(draw):
    constant = draw(1, 4).repeat(6, 1).requires_grad_()
    value = barlow_twins(constant, draw(6, 4))
    value.backward()
    assert value.item() == pytest.approx(4)
    assert constant.grad.isfinite().all()


def test_affine_changes_of_columns_and_swapped_views_change_nothing(draw):
    a, b = draw(7, 3), draw(7, 3)
    value = barlow_twins(a, b, eps=1e-12)
    torch.testing.assert_close(barlow_twins(a * draw(3).abs() + draw(3), b, eps=1e-12), value)
    torch.testing.assert_close(barlow_twins(b, a, eps=1e-12), value)


def test_derivatives(draw):
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    views = draw(5, 3).requires_grad_(), draw(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(barlow_twins, (*views, weight))
    assert torch.autograd.gradgradcheck(barlow_twins, (*views, weight))
