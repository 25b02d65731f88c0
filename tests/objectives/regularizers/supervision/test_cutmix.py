import pytest
import torch
from selftune.objectives.functional import cutmix

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


PERMUTATION = torch.tensor([1, 2, 0])


def mix(lam, center, height=8, width=6):
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, height, width)
    return images, *cutmix(images, torch.eye(3), PERMUTATION, torch.tensor(lam), torch.tensor(center))


def test_lam_one_is_the_identity_and_lam_zero_in_the_middle_permutes():
    images, mixed, targets = mix(1.0, [4, 3])
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.eye(3))
    images, mixed, targets = mix(0.0, [4, 3])
    assert torch.equal(mixed, images[PERMUTATION])
    assert torch.equal(targets, torch.eye(3)[PERMUTATION])


@pytest.mark.parametrize("center", [[4, 3], [0, 0], [7, 5], [0, 5]])
@pytest.mark.parametrize("lam", [0.1, 0.5, 0.75])
def test_targets_follow_the_changed_pixels(lam, center):
    images, mixed, targets = mix(lam, center)
    changed = (mixed != images).to(targets.dtype).flatten(1).mean(dim=1)
    torch.testing.assert_close(targets.diagonal(), 1 - changed)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))


def test_the_box_by_hand():
    _, mixed, targets = mix(0.75, [0, 3])  # sides 8 * 0.5 and 6 * 0.5: half sides 2 and 1
    expected = torch.zeros(8, 6)
    expected[0:2, 2:4] = 1
    assert torch.equal(mixed[0, 0], expected)
    assert targets[0].tolist() == pytest.approx([1 - 4 / 48, 4 / 48, 0])


def test_no_probability_is_plain_training_and_some_is_not(lab):
    plain = lab.weights(lab.train([], 3, kind="images"))
    for probability, same in ((0.0, True), (1.0, False)):
        member = regularizers["cutmix"](probability=probability)
        trainer = lab.train([member], 3, kind="images")
        assert torch.equal(lab.weights(trainer), plain) is same
