import itertools
import math

import pytest
import torch
from selftune.objectives.regularizers.structure.flag_aggregation import flag_aggregation


def _outside(basis, direction):
    return (1 - (basis.T @ direction).square().sum()).clamp_min(0)


def _objective(basis, gradients, strength):
    """A(Y), term by term."""
    total = sum(_outside(basis, row / row.norm()).sqrt() for row in gradients)
    pairs = list(itertools.permutations(gradients, 2))
    return total + strength / len(pairs) * sum(_outside(basis, (a - b) / (a - b).norm()).sqrt() for a, b in pairs)


def _definition(gradients, rank, strength, iterations=5, epsilon=1e-7, initial=None):
    """Every step in the full space, column by column; the mean, and the subspace."""
    units = [row / row.norm() for row in gradients]
    pairs = [(a - b) / (a - b).norm() for a, b in itertools.permutations(gradients, 2)]

    def largest(columns):
        return torch.linalg.svd(torch.stack(columns, dim=1), full_matrices=False)[0][:, :rank]

    basis = largest(units) if initial is None else torch.linalg.qr(initial)[0]
    for _ in range(iterations):
        columns = [(_outside(basis, u) + epsilon) ** -0.25 * u for u in units]
        if strength:
            share = math.sqrt(strength / len(pairs))
            columns += [share * (_outside(basis, w) + epsilon) ** -0.25 * w for w in pairs]
        turned = largest(columns)
        if _objective(basis, gradients, strength) - _objective(turned, gradients, strength) <= 1e-10:
            break
        basis = turned
    return basis @ (basis.T @ torch.stack(units).mean(dim=0)), basis


@pytest.mark.parametrize("strength", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(("workers", "size", "rank"), [(3, 5, 2), (8, 20, 1), (8, 20, 5), (8, 4, 3), (5, 2, 2)])
def test_follows_the_definition(randn, workers, size, rank, strength):
    gradients = randn(workers, size) * (1 + 5 * randn(workers, 1).abs())
    expected, _ = _definition(gradients, rank, strength)
    torch.testing.assert_close(flag_aggregation(gradients, rank=rank, strength=strength), expected)


@pytest.mark.parametrize("iterations", [1, 5])
def test_begins_where_it_is_told_to(randn, iterations):
    gradients, initial = randn(6, 9), randn(9, 2)
    expected, _ = _definition(gradients, 2, 0.5, iterations, initial=initial)
    found = flag_aggregation(gradients, rank=2, strength=0.5, iterations=iterations, initial=initial)
    torch.testing.assert_close(found, expected)


def test_a_start_that_no_step_improves_is_kept(randn):
    gradients = randn(4, 6)
    best = _definition(gradients, 2, 0.0, iterations=500)[1]
    found = flag_aggregation(gradients, rank=2, initial=best)
    torch.testing.assert_close(found, best @ (best.T @ (gradients / gradients.norm(dim=1, keepdim=True)).mean(0)))


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_every_step_lowers_the_objective(randn, strength):
    gradients = randn(7, 12)
    values = [
        _objective(_definition(gradients, 3, strength, iterations)[1], gradients, strength)
        for iterations in range(6)
    ]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0]


def test_no_direction_on_a_circle_explains_more(randn):
    gradients = randn(5, 2)
    reached = _objective(_definition(gradients, 1, 0.0, iterations=300)[1], gradients, 0.0)
    near = _definition(gradients, 1, 0.0, iterations=300)[1][:, 0]
    for turn in torch.linspace(-0.05, 0.05, 41).tolist():
        rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]).double()
        assert _objective((rotation @ near)[:, None], gradients, 0.0) >= reached - 1e-4  # epsilon rounds the kinks


def test_lengths_do_not_count_without_a_strength(randn):
    gradients = randn(6, 10)
    scaled = gradients * torch.tensor([1.0, 1e-6, 1e12, 3.0, 1e30, 0.5], dtype=torch.float64)[:, None]
    torch.testing.assert_close(flag_aggregation(scaled), flag_aggregation(gradients))
    assert flag_aggregation(scaled).norm() <= 1


def test_turns_with_the_workers(randn, rotation):
    gradients, matrix = randn(7, 5), rotation(5)
    for strength in (0.0, 1.0):
        torch.testing.assert_close(
            flag_aggregation(gradients @ matrix, strength=strength),
            flag_aggregation(gradients, strength=strength) @ matrix,
        )


def test_a_subspace_that_holds_all_gives_the_mean_direction(randn):
    gradients = randn(5, 8)
    mean = (gradients / gradients.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(flag_aggregation(gradients, rank=5), mean)
    torch.testing.assert_close(flag_aggregation(gradients, rank=99), mean)


def test_equal_gradients_give_their_direction_and_zeros_nothing(randn):
    row = randn(1, 4)
    torch.testing.assert_close(flag_aggregation(row.expand(5, 4), strength=1.0), row[0] / row.norm())
    assert torch.equal(flag_aggregation(torch.zeros(3, 4)), torch.zeros(4))


def test_half_of_the_workers_and_one_more_is_the_default(randn):
    for workers, rank in ((2, 2), (3, 2), (4, 3), (8, 5), (15, 8)):
        gradients = randn(workers, 20)
        torch.testing.assert_close(flag_aggregation(gradients), flag_aggregation(gradients, rank=rank))


@pytest.mark.parametrize("attack", ["random", "sign flip"])
def test_one_dimension_is_closer_to_the_honest_than_the_mean_of_directions(randn, attack):
    truth = randn(50)
    honest = truth + randn(8, 50)
    faulty = 10 * randn(3, 50) if attack == "random" else -(truth + randn(3, 50))
    gradients = torch.cat([honest, faulty])

    def closeness(found):
        return float(torch.nn.functional.cosine_similarity(found, honest.mean(0), dim=0))

    plain = (gradients / gradients.norm(dim=1, keepdim=True)).mean(0)
    assert closeness(flag_aggregation(gradients, rank=1)) > closeness(plain)


def test_no_matrix_of_the_size_squared_is_made():
    gradients = torch.randn(6, 200_000, generator=torch.Generator().manual_seed(0))
    assert flag_aggregation(gradients, strength=1.0).shape == (200_000,)  # 320 GB otherwise


@pytest.mark.parametrize(("workers", "rank"), [(1, None), (4, 0), (4, -1)])
def test_what_cannot_be_is_refused(randn, workers, rank):
    with pytest.raises(ValueError, match="flag_aggregation needs"):
        flag_aggregation(randn(workers, 3), rank=rank)
