import pytest
import torch
from selftune.objectives.regularizers.structure.low_rank_factorization import (
    LowRankFactorization,
    low_rank_factorization,
)

from selftune.regularization.regularizer import regularizers


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


def test_the_teacher_is_the_uncompressed_network_at_the_start(trainer, objective, go_on):
    plain = trainer()
    compressed = trainer(LowRankFactorization(compression_ratio=3.0), regularizers["layer_distillation"]())
    go_on(compressed, 3)
    lower = compressed.lower
    step = lower.begin(3, lower.batches.at(3), lower.space.values(lower.space.start), "elementary")
    lower.loss(step, lower.network, lower.parameters)
    expected = plain.lower.network(step.inputs)
    torch.testing.assert_close(step.reference_layer_features[-1], expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(step.layer_features[-1], expected, atol=1e-3)


def test_factors_are_trained_in_the_place_of_large_layers(trainer):
    trained = trainer(LowRankFactorization(), steps=2)
    names = {name for name in trained.lower.parameters if name.endswith(("left", "right"))}
    assert names == {f"{layer}.parametrizations.weight.0.{side}" for layer in (0, 2) for side in ("left", "right")}
    weight = trained.plain_network()[2].weight
    assert torch.linalg.matrix_rank(weight, rtol=1e-4) == int(16 * 12 / (2 * 28))


def test_a_saved_teacher_comes_back(trainer):
    first, second = (trainer(LowRankFactorization(), steps=steps) for steps in (2, 3))
    member = second.lower.regularizers.members[0]
    member.load_state_dict(first.lower.regularizers.members[0].state_dict())
    assert set(member.state_dict()["teacher"]) == set(first.lower.network.state_dict())
