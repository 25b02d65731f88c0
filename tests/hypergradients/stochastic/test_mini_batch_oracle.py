import finite_sums
import pytest
import torch
from finite_sums import LOWER, UPPER, N, normal

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Counts
from selftune.hypergradients.stochastic import MiniBatchOracle

INDICES = {"all": None, "batch": torch.tensor([0, 3, 7]), "one": torch.tensor([2])}


@pytest.fixture(scope="module", params=["Quadratic", "Logistic"])
def problem(request):
    return getattr(finite_sums, request.param)()


def point(problem):
    d = N if isinstance(problem, finite_sums.Logistic) else finite_sums.D
    return 0.5 * normal(20, N), 0.5 * normal(21, d), normal(22, N)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_derivatives_are_those_of_dense_matrices(problem, index):
    x, u, v = point(problem)
    oracle = problem.oracle
    gradient = torch.func.grad(problem.lower)
    hessian = torch.func.hessian(problem.lower)(x, u, index)
    jacobian = torch.func.jacrev(gradient, argnums=1)(x, u, index)
    close(oracle.grad_x(x, u, index), gradient(x, u, index))
    close(oracle.JT(x, u, v, index), jacobian.T @ v)
    product = oracle.hvp_at(x, u, index)
    close(product(v), hessian @ v)
    close(product(2 * v), 2 * hessian @ v)
    for found, wanted in zip(
        oracle.lower_direction(x, u, v, index), (gradient(x, u, index), hessian @ v, jacobian.T @ v), strict=True
    ):
        close(found, wanted)
    for found, wanted in zip(
        oracle.upper_gradients(x, u, index), torch.func.grad(problem.upper, (0, 1))(x, u, index), strict=True
    ):
        close(found, wanted)


def test_gradient_equals_central_differences(problem):
    x, u, v = point(problem)
    step = 1e-6
    plus, minus = (problem.lower(x + sign * step * v, u, INDICES["batch"]) for sign in (1, -1))
    along = problem.oracle.grad_x(x, u, INDICES["batch"]) @ v
    torch.testing.assert_close(along, (plus - minus) / (2 * step), rtol=1e-7, atol=1e-9)


def test_batches_of_a_partition_average_to_all_examples(problem):
    x, u, v = point(problem)
    oracle = problem.oracle
    pieces = torch.randperm(LOWER, generator=torch.Generator().manual_seed(0)).split(5)  # 5, 5, 2
    wanted = oracle.lower_direction(x, u, v)
    parts = [oracle.lower_direction(x, u, v, piece) for piece in pieces]
    for place in range(3):
        close(sum(len(p) / LOWER * part[place] for p, part in zip(pieces, parts, strict=True)), wanted[place])


def test_upper_batches_of_a_partition_average_to_all_examples():
    problem = finite_sums.Quadratic()
    x, u, _ = point(problem)
    pieces = torch.arange(UPPER).split(4)
    parts = [problem.oracle.upper_gradients(x, u, piece) for piece in pieces]
    for place, wanted in enumerate(problem.oracle.upper_gradients(x, u)):
        close(sum(len(p) / UPPER * part[place] for p, part in zip(pieces, parts, strict=True)), wanted)


def test_results_carry_no_graph_and_inputs_stay_leaves_without_gradients(problem):
    x, u, v = point(problem)
    oracle = problem.oracle
    results = [
        oracle.grad_x(x, u),
        oracle.hvp_at(x, u)(v),
        oracle.JT(x, u, v),
        *oracle.lower_direction(x, u, v),
        *oracle.upper_gradients(x, u),
    ]
    assert not any(result.requires_grad for result in results)
    assert not any(vector.requires_grad for vector in (x, u, v))


def test_works_where_gradients_are_switched_off(problem):
    x, u, v = point(problem)
    wanted = problem.oracle.lower_direction(x, u, v)
    with torch.no_grad():
        found = problem.oracle.lower_direction(x, u, v)
        close(problem.oracle.hvp_at(x, u)(v), wanted[1])
    for one, other in zip(found, wanted, strict=True):
        close(one, other)


def test_every_call_is_counted_and_a_direction_runs_the_model_once():
    calls = []

    def lower(x, u, index):
        calls.append(index)
        return (u.exp() * x.square()).sum()

    oracle = MiniBatchOracle(lower, lambda x, u, index: x.sum(), 1, 1)
    x, u = torch.ones(2), torch.zeros(2)
    oracle.lower_direction(x, u, x)
    assert len(calls) == 1
    assert oracle.counts == Counts(grad=1, hvp=1, jac=1)
    product = oracle.hvp_at(x, u)
    product(x), product(x)
    assert len(calls) == 2
    oracle.grad_x(x, u), oracle.JT(x, u, x), oracle.upper_gradients(x, u)
    assert oracle.counts == Counts(grad=2, hvp=3, jac=2, up=1)


def test_a_lower_level_linear_in_x_has_zero_second_derivatives():
    oracle = MiniBatchOracle(lambda x, u, index: 3 * x.sum() + u.sum(), lambda x, u, index: x.sum(), 1, 1)
    x, u = torch.ones(2), torch.ones(1)
    gradient, hessian, mixed = oracle.lower_direction(x, u, x)
    assert gradient.tolist() == [3, 3]
    assert hessian.tolist() == oracle.hvp_at(x, u)(x).tolist() == [0, 0]
    assert mixed.tolist() == oracle.JT(x, u, x).tolist() == [0]


def test_an_upper_level_free_of_u_has_zero_gradient_there():
    oracle = MiniBatchOracle(lambda x, u, index: x.square().sum(), lambda x, u, index: x.sum(), 1, 1)
    in_x, in_u = oracle.upper_gradients(torch.ones(2), torch.ones(3))
    assert in_x.tolist() == [1, 1]
    assert in_u.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("numbers", "key"), [((0, 1), "lower_examples"), ((1, 0), "upper_examples")])
def test_numbers_of_examples_are_positive(numbers, key):
    with pytest.raises(SettingError, match=f"{key}: must be at least 1, got 0"):
        MiniBatchOracle(lambda x, u, index: x.sum(), lambda x, u, index: x.sum(), *numbers)
