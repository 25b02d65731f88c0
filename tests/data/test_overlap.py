import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from selftune.data.overlap import equal_examples, overlap

X = torch.arange(20.0).reshape(10, 2)
WHOLE = TensorDataset(X, torch.arange(10))


def test_one_object_is_shared_as_a_whole():
    assert overlap(WHOLE, WHOLE) == overlap(DataLoader(WHOLE), DataLoader(WHOLE, batch_size=3)) == "all examples"


def test_subsets_are_compared_by_position():
    first = Subset(WHOLE, range(6))
    assert overlap(first, Subset(WHOLE, range(6, 10))) == ""
    assert overlap(first, Subset(WHOLE, range(4, 10))) == "2 examples"
    assert overlap(Subset(first, [5, 0]), Subset(WHOLE, [5, 7])) == "1 example"
    assert overlap(WHOLE, Subset(WHOLE, [5])) == "1 example"
    assert overlap(WHOLE, Subset(WHOLE, [])) == ""


def test_other_data_are_not_taken_for_shared():
    assert overlap(WHOLE, TensorDataset(X, torch.arange(10))) == ""
    assert overlap([1, 2], (3, 4)) == ""


def test_examples_are_equal_in_all_of_their_tensors():
    batch = {"inputs": X, "labels": torch.arange(10)}
    other = {"inputs": X[3:6], "labels": torch.tensor([3, 4, 9])}
    assert equal_examples(batch, other) == 2
