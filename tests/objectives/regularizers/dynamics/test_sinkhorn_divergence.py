import pytest
import torch
from selftune.objectives.regularizers.dynamics.sinkhorn_divergence import sinkhorn_divergence

SETTINGS = {"epsilon": 0.5, "iterations": 500}


def test_zero_with_zero_gradient_where_both_agree(draw):
    x = draw(6, 2)
    moved = x.clone().requires_grad_()
    value = sinkhorn_divergence(moved, x, epsilon=2.0)
    value.backward()
    assert abs(value.item()) < 1e-12
    assert moved.grad.abs().max() < 1e-9
    assert sinkhorn_divergence(x, x).item() == 0


def test_positive_elsewhere(draw):
    for shift in (0.01, 0.5):
        assert sinkhorn_divergence(draw(5, 2), draw(4, 2) + shift, **SETTINGS) > 0


def test_motions_and_orders_change_nothing(draw):
    x, y, shift = draw(5, 3), draw(4, 3), draw(3)
    rotation = torch.linalg.qr(draw(3, 3)).Q
    value = sinkhorn_divergence(x, y, **SETTINGS)
    torch.testing.assert_close(sinkhorn_divergence(x @ rotation + shift, y @ rotation + shift, **SETTINGS), value)
    torch.testing.assert_close(sinkhorn_divergence(x[[3, 0, 4, 2, 1]], y[[2, 0, 1, 3]], **SETTINGS), value)


def test_large_epsilon_gives_the_squared_distance_of_the_weighted_means(draw):
    x, y, a, b = draw(5, 3), draw(4, 3), torch.softmax(draw(5), 0), torch.softmax(draw(4), 0)
    value = sinkhorn_divergence(x, y, source=a, target=b, epsilon=1e5)
    assert value.item() == pytest.approx((a @ x - b @ y).square().sum().item(), rel=1e-3)


def test_two_points_are_their_squared_distance_apart(draw):
    x, y = draw(1, 3), draw(1, 3)
    torch.testing.assert_close(sinkhorn_divergence(x, y), (x - y).square().sum())


def test_derivatives(draw):
    epsilon = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def function(x, y, epsilon):
        return sinkhorn_divergence(x, y, epsilon=epsilon, iterations=500)

    assert torch.autograd.gradcheck(function, (draw(3, 2).requires_grad_(), draw(4, 2).requires_grad_(), epsilon))
