import pytest
import torch
from selftune.objectives.functional import l1

pytestmark = pytest.mark.usefixtures("double")


def test_scaling_by_a_scales_the_value_by_its_size():
    parameters = [torch.randn(3, 2), torch.randn(4)]
    torch.testing.assert_close(l1([-3 * p for p in parameters]), 3 * l1(parameters))


def test_gradient_is_the_sign_and_zero_at_zero():
    parameter = torch.tensor([2.0, 0.0, -0.5], requires_grad=True)
    assert torch.autograd.grad(l1([parameter]), parameter)[0].tolist() == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("a", [2.0, -2.0, 0.3])
def test_one_dimensional_minimiser_is_the_soft_threshold(a):
    grid = torch.linspace(-3, 3, 6001)
    values = torch.stack([0.5 * (w - a) ** 2 + 0.5 * l1([w]) for w in grid])
    expected = max(abs(a) - 0.5, 0.0) * (1 if a > 0 else -1)
    assert grid[values.argmin()].item() == pytest.approx(expected, abs=1e-9)
