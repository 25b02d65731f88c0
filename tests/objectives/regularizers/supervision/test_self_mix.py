import pytest
import torch
from selftune.objectives.functional import cutmix, self_mix

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_lam_one_returns_the_first_crop():
    crops, targets = torch.randn(3, 2, 1, 4, 4), torch.rand(3, 2, 5)
    mixed, labels = self_mix(crops, targets, torch.tensor(1.0), torch.tensor([1, 2]))
    assert torch.equal(mixed, crops[:, 0])
    assert torch.equal(labels, targets[:, 0])


def test_equal_labels_stay():
    crops, label = torch.randn(3, 2, 1, 4, 4), torch.rand(3, 1, 5)
    _, labels = self_mix(crops, label.expand(3, 2, 5), torch.tensor(0.4), torch.tensor([1, 2]))
    torch.testing.assert_close(labels, label[:, 0])


def test_is_cutmix_of_the_two_crops_of_one_image():
    crops, targets = torch.randn(3, 2, 1, 6, 4), torch.rand(3, 2, 5)
    lam, center = torch.tensor(0.6), torch.tensor([0, 3])
    mixed, labels = self_mix(crops, targets, lam, center)
    for image in range(3):
        pasted, mixed_targets = cutmix(crops[image], targets[image], torch.tensor([1, 0]), lam, center)
        assert torch.equal(mixed[image], pasted[0])
        torch.testing.assert_close(labels[image], mixed_targets[0])


def test_no_probability_is_plain_training_and_some_is_not(lab):
    plain = lab.weights(lab.train([], 3, kind="images"))
    for probability, same in ((0.0, True), (1.0, False)):
        member = regularizers["self_mix"](probability=probability)
        trainer = lab.train([member], 3, kind="images")
        assert torch.equal(lab.weights(trainer), plain) is same
