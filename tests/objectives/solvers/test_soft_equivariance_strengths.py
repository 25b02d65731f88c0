import torch
from selftune.objectives.solvers.soft_equivariance_strengths import soft_equivariance_strengths

STRENGTHS = torch.tensor([2.0, 2.0, 0.0, 2.0], dtype=torch.float64)
PENALTIES = torch.tensor([0.3, 0.1, 0.01, 0.5], dtype=torch.float64)


def test_definition():
    adjusted = soft_equivariance_strengths(STRENGTHS, PENALTIES, 3.0)
    expected = torch.tensor([2 / 3.0**3, 2.0, 0.0, 2 / 5.0**3], dtype=torch.float64)
    torch.testing.assert_close(adjusted, expected)  # the unused symmetry does not define the smallest penalty


def test_strength_times_penalty_to_the_power_is_equal_afterwards():
    used = STRENGTHS > 0
    products = (soft_equivariance_strengths(STRENGTHS, PENALTIES) * PENALTIES**2)[used]
    torch.testing.assert_close(products, products[:1].expand(3))


def test_scale_and_power_zero():
    value = soft_equivariance_strengths(STRENGTHS, PENALTIES)
    torch.testing.assert_close(soft_equivariance_strengths(STRENGTHS, 7 * PENALTIES), value)
    assert torch.equal(soft_equivariance_strengths(STRENGTHS, PENALTIES, 0.0), STRENGTHS)


def test_perfect_symmetries_keep_their_strength():
    adjusted = soft_equivariance_strengths(torch.ones(3), torch.tensor([0.0, 0.5, 0.0]))
    assert adjusted.tolist() == [1.0, 0.0, 1.0]
    assert soft_equivariance_strengths(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5])).tolist() == [0.0, 1.0]
    assert soft_equivariance_strengths(torch.zeros(2), torch.tensor([0.0, 0.5])).tolist() == [0.0, 0.0]
