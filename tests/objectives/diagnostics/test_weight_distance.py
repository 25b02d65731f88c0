import pytest
import torch
from selftune.objectives.functional import weight_distance


@pytest.fixture
def checkpoints():
    generator = torch.Generator().manual_seed(0)
    return [[torch.randn(shape, generator=generator) for shape in ((3, 2), (4,), ())] for _ in range(3)]


def test_is_the_distance_of_the_flat_vectors(checkpoints):
    first, second, _ = ([t.flatten() for t in checkpoint] for checkpoint in checkpoints)
    torch.testing.assert_close(weight_distance(first, second), (torch.cat(first) - torch.cat(second)).norm())


def test_zero_at_the_start_and_the_triangle_inequality(checkpoints):
    a, b, c = checkpoints
    assert weight_distance(a, a) == 0
    assert weight_distance(a, c) <= weight_distance(a, b) + weight_distance(b, c)


def test_order_does_not_matter_and_there_is_no_gradient(checkpoints):
    a, b, _ = checkpoints
    parameters = [tensor.requires_grad_() for tensor in a]
    distance = weight_distance(parameters, b)
    assert not distance.requires_grad
    torch.testing.assert_close(weight_distance(parameters[::-1], b[::-1]), distance)


def test_lists_of_different_lengths_are_refused(checkpoints):
    with pytest.raises(ValueError, match="3 parameters"):
        weight_distance(checkpoints[0], checkpoints[1][:2])
