import torch
from selftune.objectives.mathematics.domains import averaging_matrix

from selftune.data.domains import balanced_weights, same_domain

DOMAINS = torch.tensor([9, -2, 9, 4, -2, 9])


def test_both_ways_to_average_over_domains_agree():
    values = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    means = torch.stack([values[d == DOMAINS].mean() for d in (-2, 4, 9)])
    torch.testing.assert_close(averaging_matrix(DOMAINS, values) @ values, means)
    torch.testing.assert_close(balanced_weights(same_domain(DOMAINS), values) @ values, means.mean())


def test_weights_sum_to_one_in_every_domain():
    matrix = averaging_matrix(DOMAINS, torch.zeros(1))
    assert matrix.shape == (3, 6)
    torch.testing.assert_close(matrix.sum(1), torch.ones(3))
    torch.testing.assert_close(balanced_weights(same_domain(DOMAINS), torch.zeros(1)).sum(), torch.tensor(1.0))
