import pytest
import torch

from selftune.errors import SettingError
from selftune.hypergradients.linear_solvers import GreedyBlockCoordinateDescent
from selftune.hypergradients.linear_solvers.greedy_block_coordinate_descent import (
    _consecutive,
    greedy_block_coordinate_descent,
)

N = 12
RULES = ("norm", "lipschitz", "diagonal", "quadratic")


def normal(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def matrix():
    root = normal(0, N, N)
    return root @ root.T / N + 0.3 * torch.eye(N, dtype=torch.float64)


def blocks(size):
    return torch.arange(N).view(-1, size)


def test_quadratic_rule_and_matrix_update_lower_a_quadratic_by_half_the_score(matrix):
    x, b = normal(1, N), normal(2, N)
    for _ in range(5):
        new, scores = greedy_block_coordinate_descent(x, matrix @ x - b, matrix, blocks(3))
        values = [float(0.5 * at @ matrix @ at - b @ at) for at in (x, new)]
        assert values[0] - values[1] == pytest.approx(float(scores.max()) / 2)
        assert (new != x).nonzero().flatten().tolist() == blocks(3)[scores.argmax()].tolist()
        x = new


def test_one_block_of_all_indices_is_newton(matrix):
    x, g = normal(1, N), normal(2, N)
    new, _ = greedy_block_coordinate_descent(x, g, matrix, blocks(N))
    torch.testing.assert_close(new, x - torch.linalg.solve(matrix, g))


def test_for_single_coordinates_all_curvature_rules_and_updates_coincide(matrix):
    x, g = normal(1, N), normal(2, N)
    expected, scores = greedy_block_coordinate_descent(x, g, matrix, blocks(1))
    for rule in RULES[1:]:
        for update in ("matrix", "lipschitz"):
            new, found = greedy_block_coordinate_descent(x, g, matrix, blocks(1), rule=rule, update=update)
            torch.testing.assert_close(new, expected)
            torch.testing.assert_close(found, scores)


def test_scores_by_hand():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    g = torch.tensor([1.0, 2.0, 2.0, 4.0])
    expected = {
        "norm": [5**0.5, 20**0.5],
        "lipschitz": [5 / 2, 20 / 8],
        "diagonal": [(1 + 2) / 2, (1 + 2) / 2],
        "quadratic": [3.0, 3.0],
    }
    for rule, scores in expected.items():
        new, found = greedy_block_coordinate_descent(
            torch.zeros(4), g, matrix, torch.tensor([[0, 1], [2, 3]]), rule=rule
        )
        torch.testing.assert_close(found, torch.tensor(scores))
        first = rule != "norm"  # ties go to the first block
        assert (new != 0).tolist() == [first, first, not first, not first]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("update", ["matrix", "lipschitz"])
@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_every_rule_solves_by_n_products_and_one(matrix, rule, update, size):
    b = normal(1, N)
    solver = GreedyBlockCoordinateDescent(size, rule, update)
    solution = solver.solve(lambda v: matrix @ v, b, tolerance=1e-9)
    assert (solution.reason, solution.products) == ("tolerance", N + 1)
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, b), rtol=1e-7, atol=1e-7)


def test_blocks_cover_all_indices():
    for n in range(1, 12):
        for size in range(1, 14):
            found = _consecutive(n, size)
            assert set(found.flatten().tolist()) == set(range(n))
            assert bool((found.diff(dim=1) == 1).all())


@pytest.mark.parametrize(
    ("setting", "key"),
    [({"block_size": 0}, "block_size"), ({"max_steps": 0}, "max_steps"), ({"rule": "best"}, "rule")],
)
def test_bad_settings_are_refused(setting, key):
    with pytest.raises(SettingError, match=key):
        GreedyBlockCoordinateDescent(**setting)


def test_too_few_products_to_read_the_matrix_are_refused(matrix):
    with pytest.raises(SettingError, match="reading 12 columns takes 14"):
        GreedyBlockCoordinateDescent(max_products=13).solve(lambda v: matrix @ v, normal(1, N), tolerance=1e-6)
