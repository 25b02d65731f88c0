import pytest
import torch
from selftune.objectives.regularizers.structure.dynamic_sparse_training import (
    DynamicSparseTraining,
    dynamic_sparse_training,
)

from selftune.regularization.regularizer import regularizers


@pytest.fixture
def layer(randn):
    weight, scores = randn(5, 6), randn(5, 6)  # scores may be negative
    mask = randn(5, 6) > 0.3
    return weight, mask, scores


@pytest.mark.parametrize("drop_fraction", [0.0, 0.3, 0.5, 1.0])
def test_keeps_the_largest_and_grows_the_best(layer, drop_fraction):
    weight, mask, scores = layer
    active = int(mask.sum())
    dropped = int(drop_fraction * active)
    new = dynamic_sparse_training(weight, mask, scores, drop_fraction=drop_fraction)
    kept = weight.abs().masked_fill(~mask, -1).flatten().topk(active - dropped).indices
    free = scores.flatten().index_fill(0, kept, -torch.inf)
    expected = torch.cat([kept, free.topk(dropped).indices]).sort().values
    assert torch.equal(new.flatten().nonzero().squeeze(1), expected)
    assert torch.equal(
        dynamic_sparse_training(weight, mask, scores, drop_fraction=torch.tensor(drop_fraction)), new
    )


def test_no_drop_is_no_change(layer):
    weight, mask, scores = layer
    assert torch.equal(dynamic_sparse_training(weight, mask, scores, drop_fraction=0.0), mask)


def test_active_zeros_and_full_masks_keep_the_count(layer):
    weight, mask, scores = layer
    for m in (mask, torch.ones_like(mask), torch.zeros_like(mask)):
        new = dynamic_sparse_training(torch.zeros_like(weight), m, scores, drop_fraction=0.5)
        assert new.sum() == m.sum()


def test_a_dropped_weight_may_grow_again():
    weight, mask = torch.tensor([0.1, 2.0, 0.0]), torch.tensor([True, True, False])
    new = dynamic_sparse_training(weight, mask, torch.tensor([5.0, 0.0, 1.0]), drop_fraction=0.5)
    assert torch.equal(new, mask)


def test_ties_go_to_the_smaller_index():
    weight, mask = torch.ones(4), torch.tensor([True, True, False, False])
    new = dynamic_sparse_training(weight, mask, torch.tensor([0.0, 0.0, 1.0, 1.0]), drop_fraction=0.5)
    assert new.tolist() == [True, False, True, False]


@pytest.mark.parametrize("growth", ["gradient", "momentum", "random", "unfired"])
def test_active_weights_move_and_their_number_does_not(trainer, go_on, growth):
    sparse = regularizers["erdos_renyi_sparsity"](density=0.3)
    trained = trainer(sparse, DynamicSparseTraining(every=3, growth=growth), steps=3)
    masks = trained.lower.regularizers.members[-1]._masks
    before = {name: mask.clone() for name, mask in masks.items()}
    go_on(trained, 1)  # step 3 moves weights
    for name, mask in masks.items():
        weight = trained.lower.parameters[name]
        assert mask.sum() == before[name].sum()
        assert weight[~mask].eq(0).all()
        grown = mask & ~before[name]
        assert weight[grown].eq(0).all()
        moments = trained.lower.optimizer.state[weight]["momentum_buffer"]
        assert moments[grown].eq(0).all()
        assert moments[mask & before[name]].ne(0).any()
    assert any(not torch.equal(mask, before[name]) for name, mask in masks.items())
    moved = {name: mask.clone() for name, mask in masks.items()}
    go_on(trained, 2)
    assert all(torch.equal(mask, moved[name]) for name, mask in masks.items())


def test_nothing_moves_after_the_stop(trainer, go_on):
    sparse = regularizers["erdos_renyi_sparsity"](density=0.3)
    trained = trainer(sparse, DynamicSparseTraining(every=1, stop=0.25), steps=10)  # of 40
    masks = trained.lower.regularizers.members[-1]._masks
    before = {name: mask.clone() for name, mask in masks.items()}
    go_on(trained, 5)
    assert all(torch.equal(mask, before[name]) for name, mask in masks.items())
