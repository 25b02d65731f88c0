import pytest
import torch
from selftune.objectives.regularizers.representation.triplet import triplet


def test_far_negatives_cost_nothing_and_equal_ones_the_margin(draw):
    anchors, others = draw(3, 2), draw(3, 2)
    assert not triplet(anchors, anchors, anchors + 10).any()
    torch.testing.assert_close(triplet(anchors, others, others, 0.3), torch.full((3,), 0.3, dtype=torch.float64))


@pytest.mark.parametrize("squared", [True, False])
def test_matches_its_definition_wherever_the_points_are(draw, squared):
    a, p, n, shift = draw(5, 3), draw(5, 3), draw(5, 3), draw(3)
    power = 2 if squared else 1
    expected = ((a - p).norm(dim=1) ** power - (a - n).norm(dim=1) ** power + 1.0).clamp_min(0)
    torch.testing.assert_close(triplet(a, p, n, 1.0, squared), expected)
    torch.testing.assert_close(triplet(a + shift, p + shift, n + shift, 1.0, squared), expected)


def test_zero_distances_have_zero_gradients(draw):
    anchors = draw(2, 3).requires_grad_()
    same = anchors.detach().clone()
    triplet(anchors, same, same, squared=False).sum().backward()
    assert not anchors.grad.any()


@pytest.mark.parametrize("squared", [True, False])
def test_derivatives(draw, squared):
    points = [draw(3, 2).requires_grad_() for _ in range(3)]
    margin = torch.full((3,), 9.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: triplet(*a, squared=squared), (*points, margin))
