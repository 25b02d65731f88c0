"""What every linear solver must do, over a list of problems."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from full_matrix import first_of

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import (
    ConjugateGradient,
    DeepConjugateDirection,
    FixedPoint,
    GradientNormalizedNewton,
    GreedyBlockCoordinateDescent,
    Minres,
    NegativeCurvature,
    NeumannSeries,
)
from selftune.hypergradients.linear_solvers.linear_solver import norm
from selftune.lower_level.smooth_objective import NotStronglyConvex

N = 24
SOLVERS = {
    "conjugate_gradient": ConjugateGradient(),
    "neumann_series": NeumannSeries(step=1.0),  # all matrices below have largest eigenvalue 1
    "minres": Minres(),
    "fixed_point": FixedPoint(),
    "deep_conjugate_direction": DeepConjugateDirection(torch.nn.Identity()),
    "useless_direction": DeepConjugateDirection(lambda r: torch.full_like(r, math.nan)),
    "greedy_block_coordinate_descent": GreedyBlockCoordinateDescent(block_size=5),
    "gradient_normalized_newton": GradientNormalizedNewton(),
}
DEFINITE = [name for name in SOLVERS if name not in ("minres", "fixed_point")]


def matrix(eigenvalues, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(N, N, dtype=torch.float64, generator=generator))
    result = basis @ torch.diag(torch.as_tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    return ((result + result.T) / 2).to(dtype)


def vector(dtype=torch.float64, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(N, dtype=torch.float64, generator=generator)).to(dtype)


class Counted:
    def __init__(self, matrix):
        self.matrix, self.calls = matrix, 0

    def __call__(self, v):
        self.calls += 1
        return self.matrix @ v


def true_residual(product, b, x):
    return float((b - product.matrix @ x).norm())


@pytest.fixture(params=SOLVERS.values(), ids=SOLVERS)
def solver(request):
    return request.param


@pytest.mark.parametrize("scale", first_of([1.0, 1e-20, 1e15]))
@pytest.mark.parametrize("condition", [1.0, 3.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_solves_to_the_tolerance_and_says_what_it_reached(solver, dtype, condition, scale):
    product = Counted(matrix(torch.logspace(-math.log10(condition), 0, N), dtype))
    b = vector(dtype, scale=scale)
    tolerance = float(b.norm()) * (1e-9 if dtype == torch.float64 else 1e-3)
    solution = solver.solve(product, b, tolerance=tolerance)
    assert solution.reason == "tolerance"
    assert solution.residual <= tolerance
    assert solution.residual == pytest.approx(norm(b - product.matrix @ solution.x), rel=1e-3)
    assert solution.products == product.calls
    assert solution.x.dtype == dtype
    exact = torch.linalg.solve(product.matrix.double(), b.double())
    assert float((solution.x - exact).norm()) <= 1.01 * condition * tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_unreachable_tolerance_is_reported_with_what_was_reached(solver, dtype):
    product = Counted(matrix(torch.logspace(-2, 0, N), dtype))
    b = vector(dtype)
    if isinstance(solver, GreedyBlockCoordinateDescent):
        solver = replace(solver, max_steps=3000)
    solution = solver.solve(product, b, tolerance=1e-30)
    assert solution.reason == "stagnation"
    assert solution.residual == pytest.approx(true_residual(product, b, solution.x), rel=0.1)
    assert solution.residual < 1e4 * torch.finfo(dtype).eps * float(b.norm())
    assert solution.products < 20_000


def test_the_cap_is_kept_and_reported(solver):
    product = Counted(matrix(torch.logspace(-3, 0, N)))
    b = vector()
    cap = N + 3 if isinstance(solver, GreedyBlockCoordinateDescent) else 7
    if isinstance(solver, GreedyBlockCoordinateDescent):
        solver = replace(solver, max_steps=3)
    solution = replace(solver, max_products=cap).solve(product, b, tolerance=1e-9)
    assert solution.reason in ("cap", "stagnation")
    assert product.calls == solution.products <= cap
    assert solution.residual == pytest.approx(true_residual(product, b, solution.x), rel=1e-9)
    assert 1e-9 < solution.residual <= float(b.norm())


def test_zero_right_hand_side_and_one_below_the_tolerance_give_zero_at_no_product(solver):
    product = Counted(matrix(torch.linspace(0.1, 1, N)))
    for b in (torch.zeros(N, dtype=torch.float64), vector()):
        for start in (None, vector(seed=2)):
            solution = solver.solve(product, b, tolerance=10.0, start=start)
            assert not solution.x.any()
            assert solution.residual == pytest.approx(float(b.norm()), rel=1e-12)
            assert (solution.products, product.calls, solution.reason) == (0, 0, "tolerance")


def test_converging_at_the_first_step_returns_that_step(solver):
    product = Counted(torch.eye(N, dtype=torch.float64))
    solution = solver.solve(product, vector(), tolerance=1e-9)
    torch.testing.assert_close(solution.x, vector())


def test_a_start_at_the_solution_costs_the_product_that_proves_it(solver):
    product = Counted(matrix(torch.linspace(0.1, 1, N)))
    exact = torch.linalg.solve(product.matrix, vector())
    solution = solver.solve(product, vector(), tolerance=1e-9, start=exact)
    assert torch.equal(solution.x, exact)
    assert solution.products == product.calls == 1


def test_a_better_start_needs_fewer_products_and_a_bad_one_is_not_used(solver):
    product = Counted(matrix(torch.logspace(-2, 0, N)))
    b, generator = vector(), torch.Generator().manual_seed(3)
    near = torch.linalg.solve(product.matrix, b) + 1e-5 * torch.randn(N, dtype=b.dtype, generator=generator)
    # CG ends after n steps from any start: a loose tolerance shows the difference
    cold = solver.solve(product, b, tolerance=1e-5)
    warm = solver.solve(product, b, tolerance=1e-5, start=near)
    assert warm.products < cold.products or isinstance(solver, GreedyBlockCoordinateDescent)
    assert warm.residual <= 1e-5
    bad = solver.solve(product, b, tolerance=1e-5, start=1e9 * vector(seed=4))
    assert bad.residual <= 1e-5
    assert bad.products == cold.products + 1
    assert torch.equal(bad.x, cold.x)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, math.nan, math.inf])
def test_a_tolerance_that_is_not_positive_is_refused(solver, tolerance):
    with pytest.raises(SettingError, match="tolerance: must be a positive number"):
        solver.solve(lambda v: v, vector(), tolerance=tolerance)


def test_numbers_that_are_not_finite_are_refused(solver):
    with pytest.raises(FloatingPointError, match="right-hand side"):
        solver.solve(lambda v: v, vector() * math.nan, tolerance=1e-3)
    with pytest.raises(FloatingPointError, match="product 1 "):
        solver.solve(lambda v: v * math.inf, vector(), tolerance=1e-3)


@pytest.mark.parametrize("smallest", [-0.5, -1e-3])
@pytest.mark.parametrize("name", DEFINITE)
def test_negative_curvature_raises_and_names_the_smallest_met(name, smallest):
    eigenvalues = torch.linspace(0.1, 1, N)
    eigenvalues[0] = smallest
    indefinite = matrix(eigenvalues)
    b = torch.linalg.eigh(indefinite).eigenvectors[:, 0] + 0.1 * vector()
    with pytest.raises(NegativeCurvature) as caught:
        SOLVERS[name].solve(lambda v: indefinite @ v, b, tolerance=1e-9)
    rounding = 10 * torch.finfo(eigenvalues.dtype).eps  # of a matrix of norm 1
    assert smallest - rounding <= caught.value.curvature <= 0
    assert f"{caught.value.curvature:.3g}" in str(caught.value)
    assert isinstance(caught.value, NotStronglyConvex)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.curvature) == (str(caught.value), caught.value.curvature)


def test_zero_curvature_raises_too():
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(NegativeCurvature, match="rounding errors"):
        ConjugateGradient().solve(lambda v: flat @ v, torch.ones(2, dtype=torch.float64), tolerance=1e-9)


def test_solvers_leave_their_arguments_and_gradients_alone(solver):
    product, b, start = Counted(matrix(torch.linspace(0.1, 1, N))), vector(), vector(seed=2)
    leaf = b.clone().requires_grad_()
    solution = solver.solve(product, leaf, tolerance=1e-6, start=start)
    assert not solution.x.requires_grad
    assert torch.equal(leaf.detach(), vector())
    assert torch.equal(start, vector(seed=2))


def test_the_smallest_curvature_met_is_at_least_the_smallest_eigenvalue():
    eigenvalues = torch.logspace(-2, 0, N)
    product = Counted(matrix(eigenvalues))
    for name in set(SOLVERS) - {"fixed_point"}:
        met = SOLVERS[name].solve(product, vector(), tolerance=1e-9).smallest_curvature
        assert 0.01 - 10 * torch.finfo(eigenvalues.dtype).eps <= met < 1  # of a matrix of norm 1
