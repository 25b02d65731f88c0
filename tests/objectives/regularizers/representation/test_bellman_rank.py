import pytest
import torch
from selftune.objectives.regularizers.representation.bellman_rank import bellman_rank


@pytest.fixture
def pairs(draw):
    features = draw(6, 4).abs()
    return features, (features + 0.1 * draw(6, 4)).abs(), 3 * draw(6).abs(), torch.tensor(0.7, dtype=torch.float64)


def test_definition(pairs):
    f, g, r, w = pairs
    expected = []
    for i in range(6):
        a, b = f[i].norm(), g[i].norm()
        bound = (a**2 + 0.9**2 * b**2 - r[i] ** 2 / w) / (2 * 0.9 * a * b)
        expected.append((f[i] @ g[i] / (a * b) - bound).clamp_min(0))
    assert torch.stack(expected).any()
    torch.testing.assert_close(bellman_rank(f, g, r, w, 0.9), torch.stack(expected))


def test_zero_without_reward_and_growing_with_it(pairs):
    f, g, r, w = pairs
    assert not bellman_rank(f, g, torch.zeros(6, dtype=torch.float64), w).any()
    assert (bellman_rank(f, g, 2 * r, w) >= bellman_rank(f, g, r, w)).all()
    assert (bellman_rank(f, g, -r, w) == bellman_rank(f, g, r, w)).all()


def test_scale_of_features_and_reward_does_not_matter(pairs):
    f, g, r, w = pairs
    torch.testing.assert_close(bellman_rank(3 * f, 3 * g, 3 * r, w), bellman_rank(f, g, r, w))


def test_gradient_is_that_of_the_cosine_and_reaches_features_only(pairs):
    f, g, r, w = (each.clone().requires_grad_() for each in pairs)
    value = bellman_rank(f, g, r, w)
    value.sum().backward()
    assert all(each.grad is None for each in (g, r, w))
    cosine = torch.nn.functional.cosine_similarity(f, g.detach(), dim=1)
    (expected,) = torch.autograd.grad(cosine[value > 0].sum(), f)
    assert expected.any()
    torch.testing.assert_close(f.grad, expected)


def test_zero_features_and_a_zero_head_give_no_nan():
    features = torch.zeros(2, 3, requires_grad=True)
    value = bellman_rank(features, torch.ones(2, 3), torch.zeros(2), torch.tensor(0.0))
    value.sum().backward()
    assert not value.any()
    assert features.grad.isfinite().all()
