from itertools import combinations

import pytest
import torch
from rounding import rounding
from selftune.objectives.regularizers.adaptation.correlation_alignment import correlation_alignment

DOMAINS = torch.tensor([4, 1, 4, 9, 1, 4, 9, 1, 9, 9])


@pytest.mark.parametrize("include_mean", [True, False])
def test_definition_over_pairs(draw, include_mean):
    features = draw(10, 3)
    parts = [features[d == DOMAINS] for d in (1, 4, 9)]
    pairs = []
    for a, b in combinations(parts, 2):
        value = (torch.cov(a.T) - torch.cov(b.T)).square().mean()
        pairs.append(value + (a.mean(0) - b.mean(0)).square().mean() if include_mean else value)
    torch.testing.assert_close(correlation_alignment(features, DOMAINS, include_mean), torch.stack(pairs).mean())


def test_invariances(draw):
    features = draw(10, 3)
    value = correlation_alignment(features, DOMAINS)
    torch.testing.assert_close(correlation_alignment(features + draw(3), DOMAINS), value)
    torch.testing.assert_close(correlation_alignment(features, 10 - DOMAINS), value)
    moved = features + 5 * (DOMAINS == 4)[:, None]
    without = correlation_alignment(features, DOMAINS, include_mean=False)
    torch.testing.assert_close(correlation_alignment(moved, DOMAINS, include_mean=False), without)
    assert correlation_alignment(moved, DOMAINS) > value


def test_identical_domains_cost_nothing(draw):
    part = draw(5, 3)
    assert (
        correlation_alignment(torch.cat([part, part]), torch.tensor([0, 1]).repeat_interleave(5)).abs()
        < rounding()
    )


def test_single_domains_and_single_examples_are_finite(draw):
    features = draw(3, 2).requires_grad_()
    assert correlation_alignment(features, torch.zeros(3, dtype=torch.long)).abs() < rounding()
    correlation_alignment(features, torch.tensor([0, 0, 1])).backward()
    assert features.grad.isfinite().all()


def test_derivatives(draw):
    assert torch.autograd.gradcheck(lambda x: correlation_alignment(x, DOMAINS), (draw(10, 2).requires_grad_(),))
