import pytest
import torch
from selftune.objectives.functional import interpolated_initialization

pytestmark = pytest.mark.usefixtures("double")


def test_the_ends():
    teacher, draw = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(interpolated_initialization(teacher, draw, 0.0), teacher)
    assert torch.equal(interpolated_initialization(teacher, draw, 1.0), draw)


@pytest.mark.parametrize("alpha", [0.25, 0.5, torch.tensor(0.75)])
def test_the_standard_deviation_is_kept(alpha):
    teacher, draw = 0.3 * torch.randn(2, 100_000)
    mixed = interpolated_initialization(teacher, draw, alpha)
    assert mixed.std().item() == pytest.approx(0.3, rel=0.02)


def test_the_divisor_in_the_middle():
    mixed = interpolated_initialization(torch.ones(1), torch.ones(1), 0.5)
    assert mixed.item() == pytest.approx(1 / 0.5**0.5)


def test_no_gradient_reaches_the_teacher():
    teacher, draw = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    value = interpolated_initialization(teacher, draw, 0.5).sum()
    assert torch.autograd.grad(value, [teacher, draw], allow_unused=True)[0] is None
