import pytest
import torch
from selftune.objectives.regularizers.structure.rank_truncation import RankTruncation, rank_truncation


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_is_the_smallest_best_approximation(randn, energy):
    matrix = randn(6, 4, 2)
    truncated = rank_truncation(matrix, energy=energy)
    values = torch.linalg.svdvals(matrix.flatten(1))
    rank = int(torch.linalg.matrix_rank(truncated.flatten(1)))
    error = (truncated - matrix).square().sum()
    torch.testing.assert_close(error, values[rank:].square().sum())
    assert error <= (1 - energy) * matrix.square().sum()
    assert values[rank - 1 :].square().sum() > (1 - energy) * matrix.square().sum()
    torch.testing.assert_close(rank_truncation(matrix, energy=torch.tensor(energy)), truncated)


def test_again_never_raises_the_rank(randn):
    matrix, ranks = randn(6, 8), []
    for _ in range(3):
        matrix = rank_truncation(matrix, energy=0.8)
        ranks.append(int(torch.linalg.matrix_rank(matrix)))
    assert ranks == sorted(ranks, reverse=True)


def test_all_energy_changes_nothing(randn):
    matrix = randn(6, 4)
    torch.testing.assert_close(rank_truncation(matrix, energy=1.0), matrix)
    steep = torch.diag(torch.tensor([1.0, 1e-4]))  # energy 1e-8 is lost in single precision
    torch.testing.assert_close(rank_truncation(steep, energy=1.0), steep, rtol=1e-5, atol=0)
    assert rank_truncation(torch.zeros(3, 2)).eq(0).all()


def test_weights_are_of_low_rank_after_every_step_that_truncates(trainer, go_on):
    trained = trainer(RankTruncation(energy=0.7, every=2), steps=1)
    weight = trained.lower.network[0].weight
    low = torch.linalg.matrix_rank(weight, rtol=1e-4)
    assert low < 6
    go_on(trained, 1)
    assert torch.linalg.matrix_rank(weight, rtol=1e-4) == 6
    go_on(trained, 1)
    assert torch.linalg.matrix_rank(weight, rtol=1e-4) < 6
