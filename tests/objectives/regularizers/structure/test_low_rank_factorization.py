import pytest
import torch
from selftune.objectives.regularizers.structure.low_rank_factorization import low_rank_factorization


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
@pytest.mark.parametrize("rank", [1, 3])
def test_is_the_best_balanced_approximation(randn, shape, rank):
    weight = randn(*shape)
    left, right = low_rank_factorization(weight, rank=rank)
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close((left @ right - weight).square().sum(), values[rank:].square().sum())
    torch.testing.assert_close(left.T @ left, values[:rank].diag())
    torch.testing.assert_close(right @ right.T, values[:rank].diag())
    assert (left.gather(0, left.abs().argmax(0, keepdim=True)) > 0).all()


def test_full_rank_reproduces_the_weight(randn):
    weight = randn(5, 3)
    left, right = low_rank_factorization(weight, rank=3)
    torch.testing.assert_close(left @ right, weight)


def test_signs_of_the_weight_do_not_change_the_left_factor(randn):
    weight = randn(5, 3)
    torch.testing.assert_close(
        low_rank_factorization(-weight, rank=2)[0], low_rank_factorization(weight, rank=2)[0]
    )


@pytest.mark.parametrize("rank", [0, 4])
def test_rank_out_of_range_is_refused(randn, rank):
    with pytest.raises(ValueError, match="rank from 1 to 3"):
        low_rank_factorization(randn(5, 3), rank=rank)
