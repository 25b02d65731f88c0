import math

import pytest
import torch
from selftune.objectives.diagnostics.inverse_participation_ratio import inverse_participation_ratio


@pytest.fixture
def rows():
    return torch.randn(6, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_follows_the_definition(rows):
    spectrum = torch.fft.rfft(rows).abs()
    expected = (spectrum / spectrum.norm(dim=1, keepdim=True)).pow(6).sum(1)
    torch.testing.assert_close(inverse_participation_ratio(rows, order=3), expected)


@pytest.mark.parametrize("length", [10, 11])
@pytest.mark.parametrize("order", [2, 3])
def test_one_frequency_and_all_frequencies(length, order):
    time = torch.arange(length, dtype=torch.float64)
    cosine = torch.cos(2 * math.pi * 3 * time / length + 0.4)
    ratios = inverse_participation_ratio(torch.stack([cosine, (time == 4).double()]), order=order)
    torch.testing.assert_close(ratios[0].item(), 1.0)
    torch.testing.assert_close(ratios[1].item(), (length // 2 + 1) ** (1.0 - order))


def test_ignores_scale_and_cyclic_shifts(rows):
    ratios = inverse_participation_ratio(rows)
    torch.testing.assert_close(inverse_participation_ratio(rows.roll(3, dims=1)), ratios)
    torch.testing.assert_close(inverse_participation_ratio((1e-30 * rows).float()), ratios.float())


def test_gradients(rows):
    assert torch.autograd.gradcheck(inverse_participation_ratio, rows[:2].requires_grad_())
    zero = torch.zeros(2, 5, requires_grad=True)
    ratios = inverse_participation_ratio(zero)
    assert ratios.eq(0).all()
    assert torch.autograd.grad(ratios.sum(), zero)[0].isfinite().all()
