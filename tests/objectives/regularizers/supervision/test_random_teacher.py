import pytest
import torch
from selftune.objectives.functional import random_teacher

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def entropy(logits):
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def test_the_minimum_is_the_teachers_entropy():
    teacher = torch.randn(4, 5)
    torch.testing.assert_close(random_teacher(teacher + 1, teacher), entropy(teacher))
    torch.testing.assert_close(random_teacher(teacher, teacher, 2.0, 2.0), entropy(teacher / 2))
    assert (random_teacher(torch.randn(4, 5), teacher) > entropy(teacher)).all()


def test_gradient_is_the_difference_of_predictions():
    student, teacher = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    value = random_teacher(student, teacher, 0.5, 2.0)
    to_student, to_teacher = torch.autograd.grad(value.sum(), [student, teacher], allow_unused=True)
    expected = ((student / 0.5).softmax(dim=1) - (teacher / 2).softmax(dim=1)) / 0.5
    torch.testing.assert_close(to_student, expected.detach())
    assert to_teacher is None


def test_is_smooth_in_both_temperatures_per_example():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    temperatures = [(0.5 + torch.rand(3)).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(lambda s, t: random_teacher(student, teacher, s, t), temperatures)


def test_the_teacher_stays_as_it_was_drawn(lab):
    trainer = lab.train([regularizers["random_teacher"]()], 0)
    teacher = lab.member(trainer)._teacher
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    lab.more(trainer, 5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_locality_starts_the_student_at_the_teacher(lab):
    for alpha, same in ((0.0, True), (1.0, False)):
        trainer = lab.train([regularizers["random_teacher"](alpha=alpha)], 0)
        taught = torch.cat([p.flatten() for p in lab.member(trainer)._teacher.parameters()])
        assert torch.allclose(lab.weights(trainer), taught) is same
