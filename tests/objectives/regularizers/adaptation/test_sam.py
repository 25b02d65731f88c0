import pytest
import torch
from selftune.objectives.regularizers.adaptation.sam import sam


def joint_norm(tensors):
    return torch.cat([each.flatten() for each in tensors]).norm()


def test_plain_perturbation_has_length_rho_along_the_gradient(draw):
    weights, gradients = [draw(3, 2), draw(4)], [draw(3, 2), draw(4)]
    moves = sam(weights, gradients, 0.3)
    torch.testing.assert_close(joint_norm(moves), torch.tensor(0.3, dtype=torch.float64))
    for move, gradient in zip(moves, gradients, strict=True):
        torch.testing.assert_close(move, 0.3 * gradient / joint_norm(gradients))


@pytest.mark.parametrize("adaptive", [True, False])
def test_no_length_or_no_gradient_is_no_move(draw, adaptive):
    weights, gradients = [draw(3)], [draw(3)]
    assert not sam(weights, gradients, 0.0, adaptive)[0].any()
    assert not sam(weights, [torch.zeros(3).double()], 0.3, adaptive)[0].any()


def test_second_gradient_of_a_quadratic(draw):
    root = draw(3, 3)
    hessian, w = root @ root.T, draw(3)
    (move,) = sam([w], [hessian @ w], 0.1)
    moved = (w + move).requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * moved @ hessian @ moved, moved)
    torch.testing.assert_close(gradient, hessian @ (w + move))
    assert moved @ hessian @ moved > w @ hessian @ w


def test_adaptive_form_follows_the_scale_of_a_tensor(draw):
    weights, gradients = [draw(3), draw(2)], [draw(3), draw(2)]
    moves = sam(weights, gradients, 0.5, adaptive=True)
    scaled = sam([7 * weights[0], weights[1]], [gradients[0] / 7, gradients[1]], 0.5, adaptive=True)
    torch.testing.assert_close(scaled[0], 7 * moves[0])
    torch.testing.assert_close(scaled[1], moves[1])
    products = [w.abs() * g for w, g in zip(weights, gradients, strict=True)]
    torch.testing.assert_close(moves[1], 0.5 * weights[1] ** 2 * gradients[1] / joint_norm(products))


def test_refuses_a_missing_gradient(draw):
    with pytest.raises(ValueError, match="shorter"):
        sam([draw(3), draw(2)], [draw(3)])
