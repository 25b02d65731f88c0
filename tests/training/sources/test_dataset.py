import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from selftune.errors import SettingError
from selftune.lower_level.objective import Stage
from selftune.training.seeds import Streams
from selftune.training.sources.dataset import DatasetSource
from selftune.training.sources.memory import MemorySource

CPU = torch.device("cpu")
X = torch.arange(40.0).reshape(20, 2)
Y = torch.arange(20) % 3


class Pairs(Dataset):
    """Items as people give them, with a count of how often one is read."""

    def __init__(self, augmented=False):
        self.augmented = augmented
        self.read = 0

    def __len__(self):
        return len(X)

    def __getitem__(self, position):
        self.read += 1
        x = X[position]
        if self.augmented:
            x = x + torch.rand(2) + random.random() + np.random.rand()
        return x, int(Y[position])


class Sentences(Dataset):
    """Examples of unequal length."""

    def __len__(self):
        return 9

    def __getitem__(self, position):
        return {"tokens": torch.full((position + 1,), position), "length": position + 1}


def padded(items):
    tokens = [item["tokens"] for item in items]
    return {
        "tokens": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=-1),
        "length": torch.tensor([item["length"] for item in items]),
    }


def streams(seed=0, member=0):
    return Streams(seed, member, CPU)


def source(dataset=None, size=6, streams_=None, **settings):
    return DatasetSource(dataset or Pairs(), size, streams_ or streams(), "epoch", CPU, **settings)


def same(one, other):
    return torch.equal(one.index, other.index) and all(map(torch.equal, one.batch, other.batch))


@pytest.mark.parametrize("stages", [(), (Stage(torch.arange(0, 15), 3), Stage(torch.arange(9, 20), 5))])
def test_batches_are_those_of_the_same_data_in_memory(stages):
    here = source(stages=stages)
    there = MemorySource([X, Y], 6, streams(), "epoch", stages)
    for step in range(8):
        assert same(here.at(step), there.at(step))
        assert here.epoch(step) == there.epoch(step)
        assert here.epochs(step, 8) == there.epochs(step, 8)
        assert here.stage(step) == there.stage(step)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_at_any_step_with_what_transforms_would_have_drawn(workers):
    straight = [source(Pairs(augmented=True)).at(step) for step in range(9)]
    later = source(Pairs(augmented=True), workers=workers)
    for step in (5, 6, 7, 2, 3):
        assert same(later.at(step), straight[step])


def test_what_the_data_set_draws_disturbs_nobody():
    drawn = source(Pairs(augmented=True))
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    drawn.at(0)
    assert (torch.rand(1), random.random(), np.random.rand()) == before


def test_a_step_is_loaded_once_until_it_is_forgotten():
    dataset = Pairs()
    drawn = source(dataset)
    first = drawn.at(0)
    assert drawn.at(0) is first
    drawn.at(1), drawn.at(2)
    assert dataset.read == 18
    assert drawn.at(1) is drawn.at(1)
    drawn.forget(before=2)
    assert dataset.read == 18
    assert same(drawn.at(0), first)  # what is asked for all the same is loaded again
    assert dataset.read == 24


def test_another_member_has_another_order():
    shared = streams()
    drawn = source(streams_=shared)
    own = drawn.at(0)
    shared.member = 1
    other = drawn.at(0)
    assert not torch.equal(own.index, other.index)
    assert same(other, source(streams_=streams(member=1)).at(0))


def test_examples_of_unequal_length_are_collated_as_the_user_does():
    drawn = source(Sentences(), size=3, collate=padded).at(0)
    assert torch.equal(drawn.batch["length"], drawn.index + 1)
    assert drawn.batch["tokens"].shape == (3, int(drawn.index.max()) + 1)


def test_items_may_be_asked_for_together():
    class Together(Pairs):
        def __getitems__(self, positions):
            return [(X[position], 7) for position in positions]

    assert source(Together()).at(0).batch[1].tolist() == [7] * 6


def test_all_examples_once_in_their_own_order():
    batches = list(source().once(8))
    assert torch.equal(torch.cat([x for x, _ in batches]), X)
    assert [len(y) for _, y in batches] == [8, 8, 4]


def test_data_that_fit_the_stated_memory_are_read_once():
    dataset = Pairs()
    drawn = source(dataset, memory=20 * (8 + 8))
    there = MemorySource([X, Y], 6, streams(), "epoch")
    assert all(same(drawn.at(step), there.at(step)) for step in range(12))
    assert torch.equal(torch.cat([x for x, _ in drawn.once(8)]), X)
    assert dataset.read == 20 + 4  # four told how large all are


def test_data_that_do_not_fit_the_stated_memory_are_loaded_when_due():
    dataset = Pairs()
    drawn = source(dataset, memory=20 * (8 + 8) - 1)
    drawn.at(0), drawn.at(1)
    assert dataset.read == 12 + 4


@pytest.mark.parametrize(
    ("collate", "words"), [(padded, "one shape"), (lambda items: [str(item) for item in items], "tensors only")]
)
def test_what_cannot_be_held_is_refused(collate, words):
    with pytest.raises(SettingError, match=words):
        source(Sentences(), size=3, collate=collate, memory=10**6).at(0)
