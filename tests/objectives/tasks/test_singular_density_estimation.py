import pytest
import torch
from selftune.objectives.tasks.singular_density_estimation import _points, _sliced_wasserstein


@pytest.mark.parametrize(("curve", "dim"), [("circle", 2), ("sphere", 3), ("swiss_roll", 2)])
def test_points_lie_in_a_subspace_within_the_unit_ball(curve, dim):
    points = _points(curve, 6, 200, seed=0)
    assert points.shape == (200, 6)
    assert torch.linalg.matrix_rank(points, rtol=1e-5) == dim
    norms = points.norm(dim=1)
    if curve == "swiss_roll":
        assert 0.25 - 1e-5 <= norms.min() < norms.max() <= 1 + 1e-5
    else:
        torch.testing.assert_close(norms, torch.ones(200))


def test_seeds_change_the_sample_not_the_curve():
    first, again, other = (_points("circle", 5, 50, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.linalg.matrix_rank(torch.cat([first, other]), rtol=1e-5) == 2


def test_too_few_dimensions_are_refused():
    with pytest.raises(ValueError, match="at least 3 dimensions"):
        _points("sphere", 2, 10, 0)


def test_sliced_wasserstein_of_a_shift_and_of_a_permutation():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    unit = directions / directions.norm(dim=1, keepdim=True)
    moved = _sliced_wasserstein(points, points + shift, directions)
    torch.testing.assert_close(moved, (unit @ shift).abs().mean())
    assert _sliced_wasserstein(points, points.flip(0), 5 * directions) < 1e-15
