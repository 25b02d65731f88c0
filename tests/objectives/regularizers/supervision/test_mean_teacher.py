import pytest
import torch
from selftune.objectives.functional import mean_teacher

pytestmark = pytest.mark.usefixtures("double")


def test_zero_copies_and_one_freezes_without_gradient():
    teacher, student = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    assert torch.equal(mean_teacher(teacher, student, 0.0), student)
    assert torch.equal(mean_teacher(teacher, student, torch.tensor(1.0)), teacher)
    assert not mean_teacher(teacher, student).requires_grad


def test_converges_geometrically_to_a_constant_student():
    teacher, student = torch.randn(3), torch.randn(3)
    moved = teacher
    for _ in range(7):
        moved = mean_teacher(moved, student, 0.9)
    torch.testing.assert_close(moved - student, 0.9**7 * (teacher - student))


def test_with_the_warm_up_the_first_updates_are_plain_averages():
    students, teacher = torch.randn(6, 3), torch.randn(3)
    for t, student in enumerate(students):
        teacher = mean_teacher(teacher, student, min(1 - 1 / (t + 1), 0.999))
        torch.testing.assert_close(teacher, students[: t + 1].mean(dim=0))
