import math

import pytest
import torch
from selftune.objectives.functional import stochastic_depth

pytestmark = pytest.mark.usefixtures("double")


def test_whole_examples_are_kept_or_dropped():
    residual, uniform = torch.randn(4, 3, 2), torch.tensor([0.1, 0.3, 0.29, 0.9])
    out = stochastic_depth(residual, uniform, 0.3)
    assert (out[[0, 2]] == 0).all()
    torch.testing.assert_close(out[[1, 3]], residual[[1, 3]] / 0.7)
    assert torch.equal(stochastic_depth(residual, uniform, 0.0), residual)


def test_expectation_is_the_residual():
    residual = torch.randn(3)
    draws = stochastic_depth(residual.expand(20_000, 3), torch.rand(20_000), 0.4)
    error = (draws.mean(dim=0) - residual).abs()
    assert (error < 3.5 * draws.std(dim=0) / math.sqrt(20_000)).all()


def test_a_rate_per_example():
    out = stochastic_depth(torch.ones(2, 2), torch.full((2,), 0.5), torch.tensor([0.2, 0.6]))
    assert out.tolist() == [[1.25, 1.25], [0.0, 0.0]]
