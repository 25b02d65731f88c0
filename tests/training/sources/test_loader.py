import random

import numpy as np
import pytest
import torch
from full_matrix import first_of
from torch.utils.data import DataLoader, Dataset, IterableDataset

from selftune.errors import SettingError
from selftune.training.seeds import Streams
from selftune.training.sources.loader import LoaderSource

CPU = torch.device("cpu")


class Augmented(Dataset):
    """Ten examples, each with what a transform draws for it; counts what is read in this process."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return 10

    def __getitem__(self, position):
        self.read += 1
        return torch.tensor([float(position), float(torch.rand(())), random.random(), np.random.rand()])


class Stream(IterableDataset):
    """Examples of a length that nobody knows."""

    def __init__(self, examples=7):
        self.examples = examples

    def __iter__(self):
        for position in range(self.examples):
            yield torch.tensor([float(position), float(torch.rand(()))])


def shuffled(kind=DataLoader, workers=0, **settings):
    return kind(Augmented(), batch_size=3, shuffle=True, num_workers=workers, **settings)


def stream(kind=DataLoader, workers=0):
    return kind(Stream(), batch_size=3, num_workers=workers)


def stateful():
    return pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader


def source(loader, member=0):
    return LoaderSource("train", loader, Streams(0, member, CPU), "epoch", CPU)


def drawn(source, steps):
    return [source.at(step).batch for step in steps]


def assert_same(one, other):
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_epochs_follow_each_other_in_orders_of_their_own():
    batches = drawn(source(shuffled()), range(8))
    orders = [torch.cat([batch[:, 0] for batch in part]).tolist() for part in (batches[:4], batches[4:])]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))


@pytest.mark.parametrize("loader", [shuffled, stream])
@pytest.mark.parametrize("workers", first_of([0, 1]))
def test_a_run_goes_on_by_passing_over_what_came_before(loader, workers):
    straight = drawn(source(loader(workers=workers)), range(9))
    for stop in (0, 2, 3, 4, 7):
        first, second = source(loader(workers=workers)), source(loader(workers=workers))
        drawn(first, range(stop))
        second.load_state_dict(first.state_dict())
        assert_same(drawn(second, range(stop, 9)), straight[stop:])
        assert second.epoch(8) == 2


@pytest.mark.parametrize("loader", [shuffled, stream])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stateful_loader_goes_on_at_once(loader, workers):
    kind = stateful()
    straight = drawn(source(loader(kind, workers)), range(9))
    for stop in (0, 2, 3, 4, 7):
        first, second = source(loader(kind, workers)), source(loader(kind, workers))
        drawn(first, range(stop))
        first.forget(before=stop)
        second.load_state_dict(first.state_dict())
        again = drawn(second, range(stop, 9))
        if workers:  # torchdata does not keep the generators of its workers
            again, wanted = [b[:, 0] for b in again], [b[:, 0] for b in straight[stop:]]
        else:
            wanted = straight[stop:]
        assert_same(again, wanted)


def test_a_stateful_loader_reads_nothing_that_came_before():
    kind = stateful()
    first, second = source(shuffled(kind)), source(shuffled(kind))
    drawn(first, range(3))
    first.forget(before=3)
    second.load_state_dict(first.state_dict())
    second.at(3)
    assert second.loader.dataset.read == 1


def test_steps_drawn_ahead_are_drawn_again_after_a_resume():
    for kind in (DataLoader, stateful()):
        first, second = source(shuffled(kind)), source(shuffled(kind))
        ahead = drawn(first, range(7))
        first.forget(before=3)
        second.load_state_dict(first.state_dict())
        assert_same(drawn(second, range(3, 7)), ahead[3:])


def test_a_step_is_loaded_once_until_it_is_forgotten():
    drawn_from = source(shuffled())
    first = drawn_from.at(0)
    later = drawn_from.at(1)
    assert drawn_from.at(0) is first
    drawn_from.forget(before=1)
    assert drawn_from.at(1) is later
    assert_same([drawn_from.at(0).batch], [first.batch])
    assert_same([drawn_from.at(1).batch], [later.batch])


def test_whole_epochs_are_passed_over_without_reading():
    loader = shuffled()
    ahead = source(loader).at(41).batch
    assert loader.dataset.read == 6
    assert_same([ahead], drawn(source(shuffled()), range(42))[-1:])


def test_another_member_has_another_order():
    one, other = source(shuffled()), source(shuffled(), member=1)
    assert not torch.equal(one.at(0).batch, other.at(0).batch)
    one._streams.member = 1
    assert_same([one.at(0).batch], [other.at(0).batch])


def test_generators_of_a_loader_are_seeded_too():
    def loader():
        return shuffled(generator=torch.Generator())

    straight = drawn(source(loader()), range(6))
    ahead = source(loader())
    assert_same([ahead.at(5).batch, ahead.at(2).batch], [straight[5], straight[2]])


def test_samplers_are_told_the_epoch():
    class Told(torch.utils.data.SequentialSampler):
        epochs = ()

        def set_epoch(self, epoch):
            self.epochs += (epoch,)

    dataset = Augmented()
    loader = DataLoader(dataset, batch_size=5, sampler=Told(dataset))
    drawn(source(loader), range(5))
    assert loader.sampler.epochs == (0, 1, 2)


def test_what_a_loader_draws_disturbs_nobody():
    torch.manual_seed(1)
    before = torch.rand(1)
    torch.manual_seed(1)
    drawn(source(shuffled()), range(5))
    assert torch.rand(1) == before


def test_epochs_and_examples():
    known, unknown = source(shuffled()), source(stream())
    assert (known.examples, unknown.examples) == (10, None)
    assert [known.epoch(step) for step in (3, 4, 8)] == [0, 1, 2]
    assert known.epochs(0, 9) == 3
    drawn(unknown, range(8))
    assert [unknown.epoch(step) for step in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]
    with pytest.raises(SettingError, match="how many batches an epoch has"):
        unknown.epochs(0, 9)


def test_a_loader_that_gives_fewer_batches_than_it_says():
    class Short(torch.utils.data.BatchSampler):
        def __len__(self):
            return 5

    dataset = Augmented()
    loader = DataLoader(dataset, batch_sampler=Short(torch.utils.data.SequentialSampler(dataset), 5, False))
    batches = source(loader)
    drawn(batches, range(6))
    assert [batches.epoch(step) for step in range(6)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["plain", "stateful", "persistent"])
def test_all_batches_once_in_between(kind):
    def loader():
        if kind == "persistent":
            return shuffled(workers=1, persistent_workers=True)
        return shuffled(DataLoader if kind == "plain" else stateful())

    straight = drawn(source(loader()), range(6))
    interrupted = source(loader())
    first = drawn(interrupted, range(2))
    assert sorted(torch.cat(list(interrupted.once(4)))[:, 0].tolist()) == list(range(10))
    rest = drawn(interrupted, range(2, 6))
    if kind == "persistent":  # torch does not seed workers that outlive an epoch again
        first, rest, straight = ([batch[:, 0] for batch in batches] for batches in (first, rest, straight))
    assert_same(first + rest, straight)


def test_an_iterator_that_ends_is_said_to():
    batches = source(iter([torch.zeros(2), torch.ones(2)]))
    drawn(batches, range(2))
    with pytest.raises(SettingError, match="train: is an iterator that has ended"):
        batches.at(2)


def test_an_iterator_cannot_be_gone_through_beside():
    with pytest.raises(SettingError, match="only once"):
        next(source(iter([torch.zeros(2)])).once(1))


@pytest.mark.parametrize("loader", [[], DataLoader(Stream(0), batch_size=2)], ids=["list", "stream"])
def test_a_loader_without_batches_is_refused(loader):
    with pytest.raises(SettingError, match="train: gives no batch"):
        source(loader).at(0)
    with pytest.raises(SettingError, match="train: gives no batch"):
        next(source(loader).once(1))
