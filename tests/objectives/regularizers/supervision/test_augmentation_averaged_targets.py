import pytest
import torch
from selftune.objectives.functional import augmentation_averaged_targets

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_the_batch_switches_on_the_mean_confidence():
    teacher, augmented = torch.randn(2, 3), torch.randn(4, 2, 3)
    anchor = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.25, 0.25]])  # mean confidence 0.7
    plain = augmentation_averaged_targets(teacher, augmented, anchor, 0.69)
    averaged = augmentation_averaged_targets(teacher, augmented, anchor, torch.tensor(0.71))
    torch.testing.assert_close(plain, teacher.softmax(dim=1))
    torch.testing.assert_close(averaged, augmented.mean(dim=0).softmax(dim=1))
    torch.testing.assert_close(averaged.sum(dim=1), torch.ones(2))
    assert not torch.allclose(averaged, augmented.softmax(dim=2).mean(dim=0))


def test_one_plain_view_makes_both_branches_agree_without_gradient():
    teacher = torch.randn(2, 3, requires_grad=True)
    anchor = torch.full((2, 3), 1 / 3)
    outs = [augmentation_averaged_targets(teacher, teacher[None], anchor, t) for t in (0.0, 1.0)]
    torch.testing.assert_close(*outs)
    assert not outs[0].requires_grad


def test_training_does_not_see_the_labels(lab):
    weights = []
    for labels in (lab.labels, lab.labels.flip(0)):
        members = [regularizers["augmentation_averaged_targets"](views=4), regularizers["mean_teacher"](decay=0.9)]
        weights.append(lab.weights(lab.train(members, 5, labels=labels)))
    assert torch.equal(*weights)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_teacher_and_source_use_the_statistics_that_the_study_says(lab, statistics):
    members = [
        regularizers["augmentation_averaged_targets"](statistics=statistics, noise=0.0, views=2, threshold=1.0),
        regularizers["mean_teacher"](decay=0.5),
    ]
    trainer = lab.train(members, 3, kind="images")
    _, step = lab.perturbed_loss(trainer, 3)
    network = lab.objective("images").network()
    network.load_state_dict(step.teacher_parameters)
    network.train(statistics == "batch")
    running = network[1].running_mean.clone()
    with torch.no_grad():
        torch.testing.assert_close(step.targets, network(step.inputs).softmax(dim=1))
    assert torch.equal(step.teacher_parameters["1.running_mean"], running)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_a_mean_teacher_can_use_the_statistics_of_the_batch(lab, statistics):
    trainer = lab.train([regularizers["mean_teacher"](decay=0.5, statistics=statistics)], 3, kind="images")
    _, step = lab.perturbed_loss(trainer, 3)
    network = lab.objective("images").network()
    teacher = lab.member(trainer).quantity("teacher_parameters", step)
    network.load_state_dict(teacher)
    network.train(statistics == "batch")
    with torch.no_grad():
        torch.testing.assert_close(lab.member(trainer).quantity("teacher_logits", step), network(step.inputs))
