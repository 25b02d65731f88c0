import pytest
import torch
import torch.nn.functional as F
from selftune.objectives.functional import normalized_distillation

pytestmark = pytest.mark.usefixtures("double")


LABELS = torch.tensor([0, 3, 2])


def by_hand(student, teacher, label, gamma, temperature):
    others = [c for c in range(len(student)) if c != label]
    target = -teacher.softmax(0)[label] * student.log_softmax(0)[label]
    p = (teacher[others] / temperature).softmax(0)
    q = (student[others] / temperature).log_softmax(0)
    return target - gamma * temperature**2 * (p * q).sum()


def test_value_by_hand_with_hyperparameters_per_example():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    gamma, temperature = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    expected = [by_hand(*row) for row in zip(student, teacher, LABELS, gamma, temperature, strict=True)]
    value = normalized_distillation(student, teacher, LABELS, gamma, temperature)
    torch.testing.assert_close(value, torch.stack(expected))


def test_gamma_zero_is_cross_entropy_weighted_by_the_teacher():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    weight = teacher.softmax(dim=1)[range(3), LABELS]
    expected = weight * F.cross_entropy(student, LABELS, reduction="none")
    torch.testing.assert_close(normalized_distillation(student, teacher, LABELS, 0.0), expected)


def test_matching_the_other_classes_minimises_the_non_target_part():
    teacher = torch.randn(3, 4)
    student = teacher.clone()
    student[range(3), LABELS] += torch.randn(3)  # the target logit does not matter for the rest
    student.requires_grad_()
    part = normalized_distillation(student, teacher, LABELS, 1.0) - normalized_distillation(
        student, teacher, LABELS, 0.0
    )
    assert torch.autograd.grad(part.sum(), student)[0].abs().max() < 1e-12


def test_invariant_to_shifts_and_smooth_without_gradient_to_the_teacher():
    student, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    value = normalized_distillation(student, teacher, LABELS)
    torch.testing.assert_close(normalized_distillation(student + 5, teacher - 3, LABELS), value)
    assert torch.autograd.grad(value.sum(), [student, teacher], allow_unused=True)[1] is None
    gamma, temperature = torch.tensor(1.5, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s, g, t: normalized_distillation(s, teacher, LABELS, g, t), (student, gamma, temperature)
    )


def test_two_classes_leave_the_target_part():
    student, teacher, labels = torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 1, 0])
    torch.testing.assert_close(
        normalized_distillation(student, teacher, labels), normalized_distillation(student, teacher, labels, 0.0)
    )
