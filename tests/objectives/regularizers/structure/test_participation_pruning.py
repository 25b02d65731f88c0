import pytest
import torch
from selftune.objectives.regularizers.structure.participation_pruning import (
    ParticipationPruning,
    participation_pruning,
)
from selftune.objectives.tasks.modular_arithmetic import ModularArithmetic

from selftune.training import Trainer


def test_fraction_zero_keeps_all(randn):
    assert participation_pruning(randn(7).abs(), fraction=0.0).all()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_drops_the_smallest(randn, fraction):
    participation = torch.softmax(randn(11), 0)
    keep = participation_pruning(participation, fraction=fraction)
    assert (~keep).sum() == int(fraction * 11)
    if 0 < keep.sum() < 11:
        assert participation[keep].min() >= participation[~keep].max()


def test_ties_drop_the_smaller_index_first():
    keep = participation_pruning(torch.full((5,), 0.2), fraction=torch.tensor(0.4))
    assert keep.tolist() == [False, False, True, True, True]


def test_removing_neurons_is_zeroing_their_activations(randn):
    first, last, x = randn(6, 4), randn(3, 6), randn(5, 4)
    keep = participation_pruning(torch.softmax(randn(6), 0), fraction=0.5)
    pruned = (x @ (first * keep[:, None]).T).square() @ (last * keep).T
    torch.testing.assert_close(pruned, ((x @ first.T).square() * keep) @ last.T)


def test_neurons_are_removed_from_both_layers_from_the_start_on(go_on):
    task = ModularArithmetic(modulus=7, hidden=20)
    trained = go_on(Trainer(task, [ParticipationPruning(fraction=0.5, start=2)]), 2)
    first, last = (trained.lower.parameters[f"{layer}.weight"] for layer in ("first", "last"))
    assert first.ne(0).any(1).all()
    go_on(trained, 1)
    removed = first.eq(0).all(1)
    assert removed.sum() == 10
    assert torch.equal(removed, last.eq(0).all(0))
