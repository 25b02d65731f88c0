import math

import pytest
import torch
from selftune.objectives.functional import dropout, spatial_dropout

pytestmark = pytest.mark.usefixtures("double")


def test_every_map_is_dropped_or_scaled_as_a_whole():
    inputs, uniform = torch.randn(5, 4, 3, 2), torch.rand(5, 4)
    out = spatial_dropout(inputs, uniform, 0.4)
    kept = uniform >= 0.4
    assert 0 < kept.sum() < kept.numel()
    assert (out[~kept] == 0).all()
    torch.testing.assert_close(out[kept], inputs[kept] / 0.6)


def test_without_spatial_extent_is_dropout():
    inputs, uniform = torch.randn(5, 4), torch.rand(5, 4)
    assert torch.equal(spatial_dropout(inputs, uniform, 0.3), dropout(inputs, uniform, 0.3))
    assert torch.equal(spatial_dropout(inputs[..., None], uniform, 0.3)[..., 0], dropout(inputs, uniform, 0.3))


def test_expectation_is_the_input():
    inputs = torch.randn(1, 3, 2)
    draws = spatial_dropout(inputs.expand(20_000, 3, 2), torch.rand(20_000, 3), 0.4)
    error = (draws.mean(dim=0) - inputs[0]).abs()
    assert (error < 3.5 * draws.std(dim=0) / math.sqrt(20_000)).all()


def test_a_rate_per_example():
    inputs, uniform = torch.ones(2, 1, 3), torch.full((2, 1), 0.5)
    assert spatial_dropout(inputs, uniform, torch.tensor([0.2, 0.6]))[:, 0, 0].tolist() == [1.25, 0.0]
