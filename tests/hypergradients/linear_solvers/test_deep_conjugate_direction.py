import pytest
import torch
from rounding import squared_rounding

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import ConjugateGradient, DeepConjugateDirection
from selftune.hypergradients.linear_solvers.deep_conjugate_direction import (
    deep_conjugate_direction,
    residual_preconditioner_loss,
)

N = 8


def normal(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def matrix():
    root = normal(0, N, N)
    return root @ root.T / N + 0.3 * torch.eye(N, dtype=torch.float64)


def energy(matrix, x, b):
    error = x - torch.linalg.solve(matrix, b)
    return float(error @ matrix @ error)


def walk(matrix, b, candidates):
    """Steps with full history: yields iterate, residual, direction."""
    x, r, previous = torch.zeros(N, dtype=torch.float64), b, torch.empty(0, N, dtype=torch.float64)
    for candidate in candidates:
        q = r if candidate is None else candidate
        x, r, d = deep_conjugate_direction(q, r, x, matrix, previous)
        previous = torch.cat([previous, d[None]])
        yield x, r, d


def test_with_residuals_as_candidates_it_is_conjugate_gradients(matrix):
    b = normal(1, N)
    for steps, (x, _, _) in enumerate(walk(matrix, b, [None] * N), start=1):
        expected = ConjugateGradient(max_products=steps + 1).solve(lambda v: matrix @ v, b, tolerance=1e-14)
        torch.testing.assert_close(x, expected.x, rtol=1e-8, atol=1e-8)


def test_any_independent_candidates_solve_in_n_steps(matrix):
    b = normal(1, N)
    *_, (x, r, _) = walk(matrix, b, normal(2, N, N))
    assert float(r.norm()) < 1e-9
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b))


def test_residuals_are_orthogonal_to_directions_and_the_energy_never_grows(matrix):
    b = normal(1, N)
    last = energy(matrix, torch.zeros_like(b), b)
    for x, r, d in walk(matrix, b, normal(3, 5, N)):
        torch.testing.assert_close(r, b - matrix @ x)
        assert abs(float(r @ d)) < 1e-12 * float(b.norm() * d.norm())
        assert energy(matrix, x, b) <= last + 1e-12
        last = energy(matrix, x, b)


@pytest.mark.parametrize("history", [1, 2, 5])
@pytest.mark.parametrize(
    "network",
    [
        torch.nn.Sequential(torch.nn.Linear(N, 16), torch.nn.Tanh(), torch.nn.Linear(16, N)).double(),
        lambda r: torch.nn.functional.pad(r[:1].float(), (0, N - 1)),  # in another type than the system
        torch.zeros_like,
        lambda r: torch.ones_like(r),  # the same direction every time
        lambda r: torch.stack([-r[1], r[0], *torch.zeros(N - 2)]),  # orthogonal to the residual
        lambda r: r / 0,
        lambda r: -1e12 * r,
    ],
)
def test_it_solves_whatever_the_network_says(matrix, network, history):
    b = normal(1, N)
    solution = DeepConjugateDirection(network, history).solve(lambda v: matrix @ v, b, tolerance=1e-9)
    assert solution.reason == "tolerance"
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-7, atol=1e-7)
    assert not solution.x.requires_grad


def test_a_network_trained_by_the_loss_needs_fewer_products_than_conjugate_gradients():
    n = 30
    basis = torch.linalg.qr(normal(0, n, n)).Q
    matrix = basis @ torch.diag(torch.logspace(-2, 0, n, dtype=torch.float64)) @ basis.T
    network = torch.nn.Linear(n, n, bias=False).double()
    torch.nn.init.eye_(network.weight)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for step in range(1000):
        rhs = torch.nn.functional.normalize(normal(step, 64, n), dim=1)
        optimizer.zero_grad()
        residual_preconditioner_loss(network(rhs), rhs, matrix).mean().backward()
        optimizer.step()
    b = normal(10_000, n)
    found, plain = (
        solver.solve(lambda v: matrix @ v, b, tolerance=0.01 * float(b.norm()))
        for solver in (DeepConjugateDirection(network), ConjugateGradient())
    )
    assert found.products < plain.products


def test_loss_is_zero_at_multiples_of_the_solution_and_blind_to_scale(matrix):
    b = normal(1, 5, N)
    solution = torch.linalg.solve(matrix, b.T).T
    scale = torch.tensor([[1.0], [-3.0], [0.1], [10.0], [-1e3]], dtype=torch.float64)
    nothing = squared_rounding(b.norm(dim=1).max() * torch.linalg.cond(matrix), terms=N)
    assert float(residual_preconditioner_loss(scale * solution, b, matrix).max()) < nothing
    q = normal(2, 5, N)
    loss = residual_preconditioner_loss(q, b, matrix)
    torch.testing.assert_close(residual_preconditioner_loss(scale * q, b, matrix), loss)
    identity = torch.eye(N, dtype=torch.float64)
    assert bool((residual_preconditioner_loss(q, b, identity) <= b.square().sum(1)).all())


def test_loss_sends_gradients_through_the_step_length(matrix):
    q, b = normal(2, 3, N).requires_grad_(), normal(1, 3, N)
    assert torch.autograd.gradcheck(lambda at: residual_preconditioner_loss(at, b, matrix), q)


def test_history_of_none_is_refused():
    with pytest.raises(SettingError, match="history"):
        DeepConjugateDirection(torch.nn.Identity(), history=0)
