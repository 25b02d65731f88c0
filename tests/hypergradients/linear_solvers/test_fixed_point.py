import pytest
import torch

from selftune.hypergradients.linear_solvers import FixedPoint


def test_solves_for_contractions_that_are_not_symmetric_even_if_residuals_grow_at_first():
    m = torch.tensor([[0.9, 50.0], [0.0, 0.9]], dtype=torch.float64)
    b = torch.ones(2, dtype=torch.float64)
    solution = FixedPoint().solve(lambda v: v - m @ v, b, tolerance=1e-9)
    assert solution.reason == "tolerance"
    torch.testing.assert_close(solution.x, torch.linalg.solve(torch.eye(2) - m, b), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, -1.0, 1.1, 5.0, -1e6])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_no_contraction_stagnates_at_the_best_point_seen(factor, dtype):
    b = torch.ones(3, dtype=dtype)
    solution = FixedPoint().solve(lambda v: v - factor * v, b, tolerance=1e-6)
    assert solution.reason == "stagnation"
    assert solution.residual <= float(b.norm())
    assert solution.products <= 110
