import pytest
import torch
from selftune.objectives.functional import elastic_net, l1, weight_decay

pytestmark = pytest.mark.usefixtures("double")


def test_the_ends_are_l1_and_weight_decay():
    parameters = [torch.randn(3, 2), torch.randn(4)]
    torch.testing.assert_close(elastic_net(parameters, 1.0), l1(parameters))
    torch.testing.assert_close(elastic_net(parameters, 0.0), weight_decay(parameters))


@pytest.mark.parametrize(("a", "ratio"), [(2.0, 0.5), (-2.0, 0.25), (0.2, 0.75)])
def test_one_dimensional_minimiser(a, ratio):
    strength, grid = 0.8, torch.linspace(-3, 3, 6001)
    values = torch.stack([0.5 * (w - a) ** 2 + strength * elastic_net([w], ratio) for w in grid])
    shrunk = max(abs(a) - strength * ratio, 0.0) * (1 if a > 0 else -1)
    expected = shrunk / (1 + strength * (1 - ratio))
    assert grid[values.argmin()].item() == pytest.approx(expected, abs=5.1e-4)


def test_is_differentiable_in_weights_and_ratio():
    weights = (torch.randn(3).sign() * (0.1 + torch.rand(3))).requires_grad_()
    ratio = torch.tensor(0.3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, r: elastic_net([w], r), (weights, ratio))
