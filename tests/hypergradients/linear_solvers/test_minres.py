from itertools import pairwise

import pytest
import torch

from selftune.hypergradients.linear_solvers import Minres


def diagonal(*entries):
    scale = torch.tensor(entries, dtype=torch.float64)
    return lambda v: scale * v


@pytest.mark.parametrize("smallest", [-3.0, -1e-2, -1e-4])
def test_solves_indefinite_systems_and_knows_the_negative_curvature(smallest):
    eigenvalues = torch.linspace(0.5, 2, 30, dtype=torch.float64)
    eigenvalues[0] = smallest
    b = torch.ones(30, dtype=torch.float64)
    solution = Minres().solve(lambda v: eigenvalues * v, b, tolerance=1e-9)
    assert solution.reason == "tolerance"
    torch.testing.assert_close(solution.x, b / eigenvalues, rtol=1e-4, atol=1e-4)
    if smallest == -3.0:
        assert -3.0 <= solution.smallest_curvature < 0


def test_a_singular_system_with_a_solution_gives_the_shortest_one():
    b = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)
    solution = Minres().solve(diagonal(1, -4, 0), b, tolerance=1e-10)
    assert solution.reason == "tolerance"
    torch.testing.assert_close(solution.x, torch.tensor([1.0, -0.5, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("entries", [(1, -4, 0), (1, 1, 0), (0, 0, 0)])
def test_a_singular_system_without_one_stagnates_at_least_squares(entries):
    b = torch.ones(3, dtype=torch.float64)
    solution = Minres().solve(diagonal(*entries), b, tolerance=1e-10)
    assert solution.reason == "stagnation"
    assert solution.residual == pytest.approx(float(sum(entry == 0 for entry in entries)) ** 0.5)
    assert solution.products < 20


def test_the_residual_never_grows_with_more_products():
    eigenvalues = torch.linspace(-1, 2, 40, dtype=torch.float64)
    b = torch.ones(40, dtype=torch.float64)
    residuals = [
        Minres(max_products=cap).solve(lambda v: eigenvalues * v, b, tolerance=1e-12).residual
        for cap in range(1, 30)
    ]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(residuals))
