import torch
from selftune.objectives.regularizers.structure.orthogonal_gradient import orthogonal_gradient


def test_is_orthogonal_and_keeps_the_norm(randn):
    gradient, parameter = randn(3, 4), randn(3, 4)
    out = orthogonal_gradient(gradient, parameter)
    assert (out * parameter).sum().abs() < 1e-14
    torch.testing.assert_close(out.norm(), gradient.norm())
    torch.testing.assert_close(orthogonal_gradient(out, parameter), out)


def test_a_step_raises_the_squared_norm_by_that_of_the_step(randn):
    gradient, parameter = randn(3, 4), randn(3, 4)
    stepped = parameter - 0.3 * orthogonal_gradient(gradient, parameter)
    torch.testing.assert_close(stepped.norm() ** 2 - parameter.norm() ** 2, 0.09 * gradient.norm() ** 2)


def test_zero_tensors(randn):
    gradient, zero = randn(4).float(), torch.zeros(4)
    torch.testing.assert_close(orthogonal_gradient(gradient, zero), gradient)
    assert orthogonal_gradient(zero, gradient).eq(0).all()
