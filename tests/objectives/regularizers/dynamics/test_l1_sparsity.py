import torch
from rounding import rounding
from selftune.objectives.regularizers.dynamics.l1_sparsity import l1_sparsity


def test_is_a_norm_without_smoothing(draw):
    x = draw(3, 4, 2)
    value = l1_sparsity(x)
    torch.testing.assert_close(value, x.abs().sum((1, 2)))
    torch.testing.assert_close(l1_sparsity(-x), value)
    torch.testing.assert_close(l1_sparsity(-2.5 * x), 2.5 * value)


def test_smoothing_adds_at_most_its_length_per_entry(draw):
    x = draw(3, 8)
    for smoothing in (1e-1, 1e-3, 1e-6):
        gap = l1_sparsity(x, smoothing=smoothing) - l1_sparsity(x)
        assert (gap > 0).all()
        assert (gap <= 8 * smoothing).all()


def test_denoising_minimiser_is_soft_thresholding(draw):
    y, strength = draw(1, 30), 0.6
    x = (y.sign() * (y.abs() - strength).clamp_min(0)).requires_grad_()
    (slope,) = torch.autograd.grad(0.5 * (x - y).square().sum() + strength * l1_sparsity(x).sum(), x)
    kept = x.detach() != 0
    assert 0 < kept.sum() < 30
    assert slope[kept].abs().max() < rounding()
    assert (slope[~kept].abs() <= strength).all()


def test_derivatives_and_smoothing_per_example(draw):
    smoothing = torch.tensor([0.1, 0.7], dtype=torch.float64, requires_grad=True)
    x = draw(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: l1_sparsity(x, smoothing=s), (x, smoothing))
    assert l1_sparsity(x, smoothing=smoothing)[1] == l1_sparsity(x, smoothing=0.7)[1]


def test_zeros_have_zero_gradients():
    x, smoothing = torch.zeros(1, 3, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    l1_sparsity(x, smoothing=smoothing).sum().backward()
    assert not x.grad.any()
    assert not smoothing.grad.any()
