import pytest
import torch
from selftune.objectives.regularizers.structure.layer_distillation import layer_distillation


def test_is_the_mean_squared_difference_per_example(randn):
    student, teacher = randn(3, 4, 5, 2), randn(3, 4, 5, 2)
    torch.testing.assert_close(layer_distillation(student, teacher), (student - teacher).square().mean((0, 2, 3)))
    assert layer_distillation(student, student).eq(0).all()


def test_repeating_layers_changes_nothing(randn):
    student, teacher = randn(2, 4, 5), randn(2, 4, 5)
    value = layer_distillation(student, teacher)
    torch.testing.assert_close(layer_distillation(student.repeat(2, 1, 1), teacher.repeat(2, 1, 1)), value)


def test_layers_of_different_shapes(randn):
    student, teacher = [randn(4), randn(4, 2, 3)], [randn(4), randn(4, 2, 3)]
    expected = ((student[0] - teacher[0]).square() + (student[1] - teacher[1]).square().mean((1, 2))) / 2
    torch.testing.assert_close(layer_distillation(student, teacher), expected)
    with pytest.raises(ValueError, match="zip"):
        layer_distillation(student, teacher[:1])


def test_gradients(randn):
    student, teacher = randn(2, 3, 2).requires_grad_(), randn(2, 3, 2).requires_grad_()
    value = layer_distillation(student, teacher).sum()
    gradients = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    torch.testing.assert_close(gradients[0], (student - teacher).detach() * 2 / 4)
    assert gradients[1] is None
