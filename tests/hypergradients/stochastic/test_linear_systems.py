import itertools
import math

import pytest
import torch
from finite_sums import normal

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import conjugate_gradient, descent, neumann


def system(n, seed=0):
    root = normal(seed, n, n)
    return root @ root.T / n + 0.5 * torch.eye(n, dtype=torch.float64), normal(seed + 50, n)


def close(found, wanted, tolerance=1e-10):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("terms", [0, 1, 6])
def test_neumann_is_the_truncated_series(terms):
    matrix, b = system(5)
    rate = 0.2
    contraction = torch.eye(5, dtype=torch.float64) - rate * matrix
    powers = [torch.linalg.matrix_power(contraction, k) @ b for k in range(terms + 1)]
    found = neumann([lambda v: matrix @ v] * terms, b, rate)
    close(found, rate * torch.stack(powers).sum(dim=0))
    remainder = torch.linalg.matrix_power(contraction, terms + 1) @ torch.linalg.solve(matrix, b)
    close(found, torch.linalg.solve(matrix, b) - remainder)


def test_neumann_takes_one_factor_of_every_product_in_turn():
    first, second, b = system(4, 1)[0], system(4, 2)[0], normal(3, 4)
    rate = 0.1
    one = b - rate * first @ b
    two = one - rate * second @ one
    close(neumann([lambda v: first @ v, lambda v: second @ v], b, rate), rate * (b + one + two))


def test_neumann_equals_descent_from_rate_times_b():
    matrix, b = system(5)
    products = [lambda v: matrix @ v] * 7
    close(neumann(products, b, 0.1), descent(products, b, 0.1 * b, 0.1))


def test_descent_closes_in_on_the_solution_and_stays_there():
    matrix, b = system(5)
    solution, start = torch.linalg.solve(matrix, b), normal(9, 5)
    contraction = torch.eye(5, dtype=torch.float64) - 0.2 * matrix
    found = descent([lambda v: matrix @ v] * 8, b, start, 0.2)
    close(found, solution + torch.linalg.matrix_power(contraction, 8) @ (start - solution))
    close(descent([lambda v: matrix @ v] * 8, b, solution, 0.2), solution)


@pytest.mark.parametrize("n", [1, 2, 7, 15])
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("warm", [False, True])
def test_n_steps_of_conjugate_gradients_equal_the_dense_solve(n, damping, warm):
    matrix, b = system(n)
    start = normal(8, n) if warm else None
    found, residual = conjugate_gradient(lambda v: matrix @ v, b, n, damping, start)
    close(found, torch.linalg.solve(matrix + damping * torch.eye(n, dtype=torch.float64), b), 1e-9)
    assert residual.shape == ()
    assert residual < 1e-9


def test_truncated_steps_are_optimal_in_their_krylov_space():
    matrix, b = system(9)
    for steps in (1, 2, 4):
        basis = torch.stack([torch.linalg.matrix_power(matrix, k) @ b for k in range(steps)], dim=1)
        wanted = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
        found, residual = conjugate_gradient(lambda v: matrix @ v, b, steps)
        close(found, wanted, 1e-8)
        close(residual, (b - matrix @ found).norm())


def test_a_start_at_the_solution_stays_there():
    matrix, b = system(6)
    solution = torch.linalg.solve(matrix, b)
    found, residual = conjugate_gradient(lambda v: matrix @ v, b, 3, start=solution)
    close(found, solution)
    assert residual < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_more_steps_than_needed_do_no_harm(dtype):
    matrix, b = (t.to(dtype) for t in system(4))
    found, residual = conjugate_gradient(lambda v: matrix @ v, b, 200)
    assert found.dtype == residual.dtype == dtype
    close(found, torch.linalg.solve(matrix, b), 1e-4 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 21])
@pytest.mark.parametrize("size", [1.0, 1e-8, 1e-16])
def test_residuals_whose_squares_vanish_end_the_iteration(n, size):
    matrix, b = (t.float() for t in system(n))
    found, residual = conjugate_gradient(lambda v: matrix @ v, size * b, 300)
    close(found / size, torch.linalg.solve(matrix, b), 1e-4)
    assert residual.isfinite()


def test_zero_right_hand_side_gives_zero():
    found, residual = conjugate_gradient(lambda v: 2 * v, torch.zeros(3), 4)
    assert found.tolist() == [0, 0, 0]
    assert residual == 0


def test_the_iterate_rests_from_the_first_direction_of_negative_curvature():
    scale = torch.tensor([3.0, 2.0, -0.1], dtype=torch.float64)
    b = torch.tensor([1.0, -1.0, 0.2], dtype=torch.float64)
    iterates = [conjugate_gradient(lambda v: scale * v, b, steps)[0] for steps in range(1, 6)]
    energies = [float((scale * q * q).sum() / 2 - b @ q) for q in iterates]
    moved = [not torch.equal(one, other) for one, other in itertools.pairwise(iterates)]
    assert energies[0] < 0  # the first direction still had positive curvature
    assert moved == sorted(moved, reverse=True)  # once at rest, at rest for good
    assert not moved[-1]
    assert energies == sorted(energies, reverse=True)
    _, residual = conjugate_gradient(lambda v: scale * v, b, 5)
    close(residual, (b - scale * iterates[-1]).norm())


def test_negative_curvature_at_once_returns_the_start():
    b, start = torch.ones(3), torch.tensor([1.0, 2.0, 3.0])
    cold, residual = conjugate_gradient(lambda v: -v, b, 3)
    assert cold.tolist() == [0, 0, 0]
    assert residual == pytest.approx(math.sqrt(3))
    warm, residual = conjugate_gradient(lambda v: -v, b, 3, start=start)
    assert torch.equal(warm, start)
    assert residual == (b + start).norm()


def test_damping_turns_curvature_positive():
    found, _ = conjugate_gradient(lambda v: -v, torch.ones(3), 1, damping=3.0)
    assert found.tolist() == [0.5, 0.5, 0.5]


def test_what_is_not_finite_shows():
    found, residual = conjugate_gradient(lambda v: v * math.nan, torch.ones(2), 2)
    assert found.isnan().all()
    assert residual.isnan()


def solve_all(b, product):
    return neumann([product], b, 0.1), descent([product], b, b, 0.1), *conjugate_gradient(product, b, 3, 0.1, b)


def test_no_value_is_read_back_from_the_device():
    # tensors on the meta device have no values: whoever asks for one raises
    results = solve_all(torch.ones(4, device="meta"), lambda v: 2 * v)
    assert [tuple(result.shape) for result in results] == [(4,), (4,), (4,), ()]


def test_results_carry_no_graph():
    scale = torch.ones(3, requires_grad=True)
    results = solve_all(torch.ones(3, requires_grad=True), lambda v: scale * v)
    assert not any(result.requires_grad for result in results)


def test_inputs_are_left_alone():
    b, kept = torch.ones(3), torch.ones(3)
    solve_all(b, lambda v: 2 * v)
    assert torch.equal(b, kept)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda b: neumann([], b, 0.0), "rate: must be positive, got 0.0"),
        (lambda b: descent([], b, b, -1.0), "rate: must be positive, got -1.0"),
        (lambda b: conjugate_gradient(lambda v: v, b, 0), "steps: must be at least 1, got 0"),
        (lambda b: conjugate_gradient(lambda v: v, b, 1, -0.1), "damping: must not be negative, got -0.1"),
    ],
)
def test_settings_are_checked(call, sentence):
    with pytest.raises(SettingError, match=sentence):
        call(torch.ones(2))
