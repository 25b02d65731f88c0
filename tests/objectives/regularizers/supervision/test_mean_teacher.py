import pytest
import torch
from selftune.objectives.functional import mean_teacher

from selftune.regularization.regularizer import regularizers

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


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_the_teacher_follows_the_network(lab, decay):
    trainer = lab.train([regularizers["mean_teacher"](decay=decay)], 0)
    expected = lab.weights(trainer)
    for _ in range(3):
        lab.more(trainer, 1)
        expected = mean_teacher(expected, lab.weights(trainer), decay)
        taught = torch.cat([tensor.flatten() for tensor in lab.member(trainer)._teacher.values()])
        torch.testing.assert_close(taught, expected)


def test_with_warm_up_it_is_the_average_of_the_iterates_which_can_be_exported(lab):
    trainer = lab.train([regularizers["mean_teacher"](warm_up=True, export_teacher=True)], 0, kind="images")
    iterates = []
    for _ in range(4):
        lab.more(trainer, 1)
        iterates.append(lab.weights(trainer))
    exported = trainer.plain_network()
    average = torch.cat([parameter.detach().flatten() for parameter in exported.parameters()])
    torch.testing.assert_close(average, torch.stack(iterates).mean(dim=0))
    assert torch.equal(exported[1].running_mean, trainer.lower.network[1].running_mean)


def test_the_teachers_predictions_are_those_of_its_weights(lab):
    members = [regularizers["mean_teacher"](decay=0.9), regularizers["normalized_distillation"]()]
    trainer = lab.train(members, 5)
    _, step = lab.perturbed_loss(trainer, 5)
    network = lab.objective().network()
    network.load_state_dict(step.teacher_parameters)
    torch.testing.assert_close(step.teacher_logits, network(step.inputs).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_moves_by_a_thousandth_in_any_precision(lab, dtype):
    trainer = lab.train([regularizers["mean_teacher"](decay=0.999)], 1, dtype=dtype)
    member, step = lab.member(trainer), lab.perturbed_loss(trainer, 1)[1]
    with torch.no_grad():
        for parameter in trainer.lower.parameters.values():
            parameter.fill_(2.0)
        for tensor in member.state_dict()["teacher"].values():
            tensor.fill_(1.0)
        for _ in range(1000):
            member.parameters(step)
    expected = torch.tensor(2 - 0.999**1000)
    for tensor in member.state_dict()["teacher"].values():
        torch.testing.assert_close(tensor, expected.expand_as(tensor), rtol=1e-4, atol=0)
