import pytest
import torch
from selftune.objectives.functional import label_smoothing, region_label_calibration

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


LABELS = torch.tensor([0, 1, 2, 0])


def test_no_thresholds_is_plain_distillation():
    teacher = torch.randn(4, 3).softmax(dim=1).requires_grad_()
    targets, weights = region_label_calibration(teacher, LABELS, 0.0, 0.0)
    assert torch.equal(targets, teacher)
    assert torch.equal(weights, torch.ones(4))
    assert not targets.requires_grad


def test_an_unreachable_threshold_is_label_smoothing():
    teacher = torch.randn(4, 3).softmax(dim=1)
    targets, weights = region_label_calibration(teacher, LABELS, 0.0, 1.1, 0.2)
    torch.testing.assert_close(targets, label_smoothing(torch.eye(3)[LABELS], 0.2))
    assert torch.equal(weights, torch.ones(4))


def test_the_three_regions_and_their_boundaries():
    teacher = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.25, 0.25], [0.375, 0.375, 0.25], [0.75, 0.125, 0.125]])
    targets, weights = region_label_calibration(teacher, LABELS, lower=0.5, upper=0.75, smoothing=0.3)
    assert torch.equal(targets[[0, 3]], teacher[[0, 3]])
    torch.testing.assert_close(targets[1:3], torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    assert weights.tolist() == [1, 1, 0, 1]
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))


def test_hyperparameters_per_example():
    teacher = torch.full((4, 3), 1 / 3)
    smoothing = torch.tensor([0.0, 0.3, 0.6, 0.9])
    targets, _ = region_label_calibration(teacher, LABELS, 0.0, torch.tensor([0.0, 0.9, 0.9, 0.9]), smoothing)
    torch.testing.assert_close(targets[0], teacher[0])
    torch.testing.assert_close(targets[range(1, 4), LABELS[1:]], 1 - smoothing[1:] * 2 / 3)


def test_dropped_examples_do_not_count_in_the_mean(lab):
    members = [
        regularizers["region_label_calibration"](lower=0.4, upper=2.0),
        regularizers["random_teacher"](strength=0.0),
    ]
    trainer = lab.train(members, 0)
    loss, step = lab.perturbed_loss(trainer, 0)
    kept = step.teacher_logits.softmax(dim=1).amax(dim=1) >= 0.4
    assert 0 < kept.sum() < 8
    torch.testing.assert_close(loss, step.losses[kept].mean())
