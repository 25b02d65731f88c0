import pytest
import torch
from selftune.objectives.functional import cutout

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("size", [0, 1])
def test_tiny_squares_are_the_identity(size):
    images = torch.randn(3, 2, 5, 6)
    assert torch.equal(cutout(images, torch.tensor([[0, 0], [2, 3], [4, 5]]), size), images)


def test_the_square_is_half_open_and_cut_off_at_the_border():
    out = cutout(torch.ones(2, 3, 5, 6), torch.tensor([[2, 3], [0, 5]]), 4)
    expected = torch.ones(2, 3, 5, 6)
    expected[0, :, 0:4, 1:5] = 0
    expected[1, :, 0:2, 3:6] = 0
    assert torch.equal(out, expected)


def test_is_idempotent_and_changes_at_most_the_square():
    images, centers = torch.randn(20, 1, 8, 8), torch.randint(8, (20, 2))
    out = cutout(images, centers, 5)
    assert ((out != images).flatten(1).sum(dim=1) <= 16).all()
    assert torch.equal(cutout(out, centers, 5), out)


def test_a_size_per_image():
    centers = torch.tensor([[4, 4], [4, 4]])
    out = cutout(torch.ones(2, 1, 8, 8), centers, torch.tensor([2, 6]))
    assert (out == 0).flatten(1).sum(dim=1).tolist() == [4, 36]


def test_no_probability_is_plain_training_and_some_is_not(lab):
    plain = lab.weights(lab.train([], 3, kind="images"))
    for probability, same in ((0.0, True), (1.0, False)):
        member = regularizers["cutout"](probability=probability, size=4)
        trainer = lab.train([member], 3, kind="images")
        assert torch.equal(lab.weights(trainer), plain) is same
