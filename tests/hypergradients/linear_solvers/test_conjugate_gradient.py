import pytest
import torch

from selftune.hypergradients.linear_solvers import ConjugateGradient, Minres


def system(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, dtype=torch.float64, generator=generator)
    return root @ root.T / n + 0.5 * torch.eye(n), torch.randn(n, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("solver", [ConjugateGradient, Minres])
@pytest.mark.parametrize("n", [1, 2, 7, 15])
def test_n_steps_equal_a_direct_solve(solver, n):
    matrix, b = system(n)
    solution = solver(max_products=n + 1).solve(lambda v: matrix @ v, b, tolerance=1e-9)
    assert solution.reason == "tolerance"
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-9, atol=1e-9)


def test_work_grows_with_the_root_of_the_condition_number():
    products = []
    for condition in (100.0, 10_000.0):
        eigenvalues = torch.logspace(0, 1, 2000, base=condition, dtype=torch.float64)
        solution = ConjugateGradient().solve(
            lambda v, scale=eigenvalues: scale * v, torch.ones(2000, dtype=torch.float64), tolerance=1e-3
        )
        assert solution.reason == "tolerance"
        products.append(solution.products)
    assert products[1] / products[0] == pytest.approx(10, rel=0.4)
