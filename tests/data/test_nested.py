from collections import OrderedDict, UserDict, namedtuple
from types import MappingProxyType

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from selftune.data.nested import mapped, moved, rows_of, size_of, tensors_in
from selftune.errors import SettingError

Pair = namedtuple("Pair", ["inputs", "labels"])
X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([4, 5, 6])


class Encoding(UserDict):
    """As what a tokenizer of transformers gives: no dictionary, with more than its entries."""

    def __init__(self, data, encodings=None):
        super().__init__(data)
        self.encodings = encodings


@pytest.mark.parametrize(
    "batch",
    [X, (X, Y), [X, Y], Pair(X, Y), {"x": X, "y": Y}, OrderedDict(x=X, y=Y), {"x": (X, [Y]), "y": Pair(X, Y)}],
    ids=["tensor", "tuple", "list", "named", "mapping", "ordered", "nested"],
)
def test_a_structure_comes_back_as_what_it_was(batch):
    doubled = mapped(lambda tensor: tensor * 2, batch)
    assert type(doubled) is type(batch)
    for new, old in zip(tensors_in(doubled), tensors_in(batch), strict=True):
        assert torch.equal(new, 2 * old)
    assert size_of(batch) == 3
    assert [tensor.tolist() for tensor in tensors_in(rows_of(batch, torch.tensor([2])))] == [
        tensor[2:].tolist() for tensor in tensors_in(batch)
    ]


def test_what_behaves_like_a_dictionary_keeps_its_class_and_what_else_it_holds():
    batch = Encoding({"input_ids": Y}, encodings="fast")
    halved = rows_of(batch, torch.tensor([0]))
    assert type(halved) is Encoding
    assert halved.encodings == "fast"
    assert halved["input_ids"].tolist() == [4]
    assert batch["input_ids"].tolist() == [4, 5, 6]


def test_a_mapping_that_cannot_be_written_to_becomes_a_dictionary():
    assert mapped(lambda tensor: tensor + 1, MappingProxyType({"y": Y}))["y"].tolist() == [5, 6, 7]


def test_what_is_no_tensor_is_left_alone():
    batch = {"text": ["a", "b", "c"], "none": None, "number": 3, "y": Y}
    assert rows_of(batch, torch.tensor([1])) == {"text": ["a", "b", "c"], "none": None, "number": 3, "y": Y[1:2]}


def test_rows_are_taken_of_what_belongs_to_examples():
    mask, scale = torch.ones(2, 2), torch.tensor(0.5)
    batch = rows_of({"x": X, "mask": mask, "scale": scale}, torch.tensor([0, 2]))
    assert batch["x"].tolist() == [[0, 1], [4, 5]]
    assert batch["mask"] is mask
    assert batch["scale"] is scale


def test_a_batch_moves_with_what_else_can_move():
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    x, sequence, text = moved((X, packed, "text"), torch.device("meta"))
    assert x.device.type == sequence.data.device.type == "meta"
    assert sequence.batch_sizes.device.type == "cpu"
    assert text == "text"


@pytest.mark.parametrize("batch", [{"text": "a"}, [], torch.tensor(1.0)], ids=["text", "nothing", "scalar"])
def test_a_batch_without_examples_is_refused(batch):
    with pytest.raises(SettingError, match="first axis"):
        size_of(batch)
