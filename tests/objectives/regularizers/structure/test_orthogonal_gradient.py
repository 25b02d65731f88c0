from types import SimpleNamespace

import torch
from rounding import rounding
from selftune.objectives.regularizers.structure.orthogonal_gradient import OrthogonalGradient, orthogonal_gradient


def test_is_orthogonal_and_keeps_the_norm(randn):
    gradient, parameter = randn(3, 4), randn(3, 4)
    out = orthogonal_gradient(gradient, parameter)
    assert (out * parameter).sum().abs() < rounding()
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


def test_gradients_are_orthogonal_to_the_weights_from_the_start_on(trainer, go_on):
    trained = trainer(OrthogonalGradient(start=4))
    plain = trainer()
    go_on(trained, 4)
    go_on(plain, 4)
    weight = trained.lower.parameters["0.weight"]
    assert torch.equal(weight, plain.lower.parameters["0.weight"])
    before = weight.detach().clone()
    go_on(trained, 1)
    assert (weight.grad * before).sum().abs() < 1e-6
    assert weight.grad.norm() > 0


def test_a_mix_leaves_part_of_the_gradient(randn):
    gradient, parameter = randn(3, 4), randn(3, 4)
    member = OrthogonalGradient(mix=0.25)
    member.bound = {h.name: h.with_value(member.settings.get(h.name, h.value)) for h in member.hyperparameters}
    mixed = gradient.clone()
    member.gradients(SimpleNamespace(number=0, parameters={"w": parameter}), {"w": mixed})
    torch.testing.assert_close(mixed, 0.75 * gradient + 0.25 * orthogonal_gradient(gradient, parameter))
