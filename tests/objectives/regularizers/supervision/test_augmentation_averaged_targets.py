import pytest
import torch
from selftune.objectives.functional import augmentation_averaged_targets

from selftune.regularizer import regularizers

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
