from types import SimpleNamespace

import pytest
import torch
from selftune.objectives.mathematics.draws import symmetric_beta, truncated_normal


def step(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(generator=generator, rand=lambda *shape: torch.rand(shape, generator=generator))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_moments(alpha):
    one = step()
    draws = torch.stack([symmetric_beta(one, torch.tensor(alpha)) for _ in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(draws.mean() - 0.5) < 4 * (variance / 4000) ** 0.5
    assert draws.var().item() == pytest.approx(variance, rel=0.1)


def test_tiny_alpha_is_finite_and_follows_the_generator():
    draws = [symmetric_beta(step(7), torch.tensor(1e-4)) for _ in range(2)]
    assert draws[0].isfinite()
    assert torch.equal(*draws)


def test_derivative_in_alpha():
    alpha = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    ends = torch.stack([symmetric_beta(step(s), alpha) for s in range(300)])
    (slope,) = torch.autograd.grad((ends - 0.5).square().mean(), alpha)
    # the variance is 1 / (8 alpha + 4)
    assert slope.item() == pytest.approx(-8 / 144, rel=0.35)


def test_truncated_normals_have_the_moments_of_the_normal_distribution_within_two_deviations():
    draws = truncated_normal(step(), 20000)
    assert draws.abs().max() <= 2
    assert abs(draws.mean()) < 0.03
    assert draws.var().item() == pytest.approx(0.7737, rel=0.03)
