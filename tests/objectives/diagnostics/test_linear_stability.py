import itertools

import pytest
import torch
from selftune.objectives.diagnostics.linear_stability import linear_stability


@pytest.fixture
def gradients():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_ratios(gradients):
    trace_ratio, top_ratio, _ = linear_stability(gradients, learning_rate=0.3)
    covariance = gradients.T @ gradients / 6
    torch.testing.assert_close(trace_ratio, 0.15 * covariance.trace())
    torch.testing.assert_close(top_ratio, 0.15 * torch.linalg.eigvalsh(covariance)[-1])
    doubled = linear_stability(gradients, learning_rate=torch.tensor(0.6, dtype=torch.float64))
    torch.testing.assert_close(torch.stack(doubled[:2]), 2 * torch.stack([trace_ratio, top_ratio]))


@pytest.mark.parametrize("learning_rate", [0.1, 0.7, 2.0])
def test_full_batches_grow_by_the_extreme_eigenvalue(gradients, learning_rate):
    growth = linear_stability(gradients, learning_rate=learning_rate, batch_size=None)[2]
    eigenvalues = torch.linalg.eigvalsh(gradients.T @ gradients / 6)
    torch.testing.assert_close(growth, (1 - learning_rate * eigenvalues).square().max())


@pytest.mark.parametrize("samples", [1, 3])
def test_growth_is_that_of_the_simulated_second_moment(gradients, samples):
    """Power iteration on the mean of (I - eta g g') S (I - eta g g') over the samples g, of rank below d."""
    few, rate = gradients[:samples], 0.8
    moment = few.T @ few
    steps = torch.eye(4, dtype=torch.float64) - rate * torch.einsum("ni,nj->nij", few, few)
    projector = torch.linalg.pinv(few) @ few
    for _ in range(500):
        grown = projector @ (steps @ moment @ steps).mean(0) @ projector
        ratio = grown.norm() / moment.norm()
        moment = grown / grown.norm()
    torch.testing.assert_close(linear_stability(few, learning_rate=rate)[2], ratio)


def test_equal_norms_lose_stability_where_the_trace_ratio_says(gradients):
    equal = gradients / gradients.norm(dim=1, keepdim=True)  # trace 1, hence critical at 2
    growths = [linear_stability(equal, learning_rate=rate)[2] for rate in (1.99, 2.0, 2.01)]
    assert growths[0] < 1 < growths[2]
    torch.testing.assert_close(growths[1].item(), 1.0)


def test_larger_batches_never_grow_faster(gradients):
    growths = [linear_stability(gradients, learning_rate=1.0, batch_size=b)[2] for b in (1, 2, 4, 64, None)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(growths))


def test_ignores_rotations_of_the_parameters(gradients):
    rotation = torch.linalg.qr(gradients[:4]).Q
    for before, after in zip(
        linear_stability(gradients, learning_rate=0.5),
        linear_stability(gradients @ rotation, learning_rate=0.5),
        strict=True,
    ):
        torch.testing.assert_close(after, before)


def test_high_rank_and_no_gradient():
    wide = torch.eye(33, dtype=torch.float64)
    trace_ratio, _, growth = linear_stability(wide, learning_rate=1.0)
    assert trace_ratio == 0.5
    assert growth.isnan()
    assert torch.equal(torch.stack(linear_stability(torch.zeros(3, 2), learning_rate=1.0)), torch.zeros(3))
