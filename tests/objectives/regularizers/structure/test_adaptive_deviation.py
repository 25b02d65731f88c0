import torch
from selftune.objectives.regularizers.structure.adaptive_deviation import adaptive_deviation


def test_zero_slope_and_offset_return_the_skip(randn):
    transformed, skip = randn(2, 3, 4, 4), randn(2, 3, 4, 4)
    assert torch.equal(adaptive_deviation(transformed, skip, slope=0.0, offset=0.0), skip)


def test_branch_scales_with_the_skip(randn):
    transformed, skip = randn(2, 3, 4, 4), randn(2, 3, 4, 4)
    branch = adaptive_deviation(transformed, skip) - skip
    deviations = torch.stack([sample.flatten().std() for sample in skip])
    torch.testing.assert_close(branch, 1.5 * deviations[:, None, None, None] * transformed)
    torch.testing.assert_close(adaptive_deviation(transformed, 3 * skip) - 3 * skip, 3 * branch)


def test_acts_on_every_sample_alone(randn, generator):
    transformed, skip = randn(5, 2, 3, 3), randn(5, 2, 3, 3)
    order = torch.randperm(5, generator=generator)
    torch.testing.assert_close(
        adaptive_deviation(transformed[order], skip[order]), adaptive_deviation(transformed, skip)[order]
    )


def test_constant_skip_leaves_the_offset_and_finite_gradients(randn):
    transformed = randn(2, 1, 2, 2)
    skip = torch.full_like(transformed, 4.0).requires_grad_()
    out = adaptive_deviation(transformed, skip, offset=0.5)
    torch.testing.assert_close(out, 4 + 0.5 * transformed)
    assert torch.autograd.grad(out.sum(), skip)[0].isfinite().all()


def test_gradient(randn):
    pair = torch.tensor([1.5, 0.2], dtype=torch.float64, requires_grad=True)
    inputs = (randn(2, 1, 2, 2).requires_grad_(), randn(2, 1, 2, 2).requires_grad_(), pair)
    assert torch.autograd.gradcheck(lambda t, s, p: adaptive_deviation(t, s, slope=p[0], offset=p[1]), inputs)
