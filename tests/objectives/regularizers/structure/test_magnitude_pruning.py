import itertools

import pytest
import torch
from selftune.objectives.regularizers.structure.magnitude_pruning import magnitude_pruning

SPARSITIES = [0.0, 0.25, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_removes_exactly_the_smallest(randn, sparsity):
    weight = randn(3, 7)
    mask = magnitude_pruning(weight, sparsity=sparsity)
    assert (~mask).sum() == int(sparsity * 21)
    if 0 < mask.sum() < 21:
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
    assert torch.equal(magnitude_pruning(weight, sparsity=torch.tensor(sparsity)), mask)


def test_masks_are_nested(randn):
    weight = randn(3, 7)
    masks = [magnitude_pruning(weight, sparsity=sparsity) for sparsity in SPARSITIES]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(masks))


def test_ties_remove_the_smaller_index_first():
    weight = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert magnitude_pruning(weight, sparsity=0.5).tolist() == [[False, False], [True, True]]
