import pytest
import torch
from selftune.objectives.regularizers.dynamics.field_of_experts import field_of_experts


def test_definition_with_reflected_borders(draw):
    x, filters, weights, smoothing = draw(1, 1, 4, 4), draw(2, 1, 3, 3), draw(2), draw(2)
    reflect = [1, 0, 1, 2, 3, 2]
    padded = x[0, 0][reflect][:, reflect]
    expected = 0.0
    for e in range(2):
        for i in range(4):
            for j in range(4):
                response = (padded[i : i + 3, j : j + 3] * filters[e, 0]).sum()
                expected += weights[e].exp() * (response**2 + smoothing[e].exp() ** 2).sqrt()
    torch.testing.assert_close(field_of_experts(x, filters, weights, smoothing)[0], expected)


def test_zero_mean_filters_ignore_constants_and_signs(draw):
    x, filters, weights, smoothing = draw(2, 1, 6, 5), draw(3, 1, 5, 5), draw(3), draw(3)
    filters = filters - filters.mean((1, 2, 3), keepdim=True)
    value = field_of_experts(x, filters, weights, smoothing)
    torch.testing.assert_close(field_of_experts(x + 4, filters, weights, smoothing), value)
    torch.testing.assert_close(field_of_experts(x, -filters, weights, smoothing), value)


def test_a_difference_filter_gives_one_direction_of_total_variation(draw):
    x = draw(1, 1, 5, 6)
    ahead = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    ahead[0, 0, 1, 1], ahead[0, 0, 1, 2] = 1, -1
    value = field_of_experts(x, ahead, torch.zeros(1).double(), torch.full((1,), -50.0).double())
    differences = (x[..., 1:] - x[..., :-1]).abs()
    # the last column sees the reflected pixel, which is its left neighbour
    torch.testing.assert_close(value, differences.sum((1, 2, 3)) + differences[..., -1].sum((1, 2)))


def test_weights_are_logarithms_of_factors(draw):
    x, filters, weights, smoothing = draw(2, 1, 4, 4), draw(2, 1, 3, 3), draw(2), draw(2)
    parts = [field_of_experts(x, filters[e : e + 1], weights[e : e + 1], smoothing[e : e + 1]) for e in (0, 1)]
    doubled = weights + torch.tensor([2.0, 1.0], dtype=torch.float64).log()
    torch.testing.assert_close(field_of_experts(x, filters, doubled, smoothing), 2 * parts[0] + parts[1])


def test_derivatives(draw):
    inputs = draw(1, 1, 3, 4), draw(2, 1, 3, 3), draw(2), draw(2)
    assert torch.autograd.gradcheck(field_of_experts, tuple(each.requires_grad_() for each in inputs))


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [((1, 1, 6, 6), 4, "odd size"), ((1, 2, 6, 6), 3, "one channel"), ((1, 1, 2, 6), 5, "larger images")],
)
def test_refusals(image, size, message):
    with pytest.raises(ValueError, match=message):
        field_of_experts(torch.ones(image), torch.ones(2, 1, size, size), torch.zeros(2), torch.zeros(2))
