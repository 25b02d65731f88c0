import pytest
import torch

from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.training.seeds import Streams
from selftune.training.sources.memory import MemorySource

DOMAINS = torch.tensor([0] * 6 + [4] * 9 + [-1] * 5)


def batches(stages=(), balanced_by="domains", size=6):
    split = {"inputs": torch.arange(20.0), "domains": DOMAINS}
    return MemorySource(split, size, Streams(0, 0, torch.device("cpu")), "epoch", stages, balanced_by)


def test_every_batch_holds_as_many_of_each_domain():
    for step in range(7):
        drawn = DOMAINS[batches().index(step)]
        assert drawn.tolist() == [-1, 0, 4, -1, 0, 4]


def test_a_domain_is_through_before_it_begins_anew():
    drawn = batches()
    for domain, turn in ((-1, 2), (0, 3), (4, 4)):
        seen = torch.cat([index[DOMAINS[index] == domain] for index in map(drawn.index, range(turn))])
        assert len(seen.unique()) == len(seen) == 2 * turn
    orders = [torch.cat([i[DOMAINS[i] == 0] for i in map(drawn.index, range(3 * n, 3 * n + 3))]) for n in (0, 1)]
    assert not torch.equal(*orders)


def test_a_step_draws_the_same_wherever_one_begins():
    through = batches()
    straight = [through.index(step) for step in range(9)]
    for step in (8, 2, 5):
        assert torch.equal(batches().index(step), straight[step])
        assert torch.equal(through.index(step), straight[step])


def test_stages_are_balanced_each():
    stages = (Stage(torch.arange(0, 15), 3), Stage(torch.arange(9, 20), 5))
    drawn = batches(stages, size=4)
    assert [sorted(DOMAINS[drawn.index(step)].tolist()) for step in (2, 3)] == [[0, 0, 4, 4], [-1, -1, 4, 4]]


def test_epochs_of_a_run_and_of_a_stage():
    assert [batches(size=6).epochs(step, 8) for step in (0, 7)] == [3, 3]  # of three steps each
    stages = (Stage(torch.arange(0, 15), 3), Stage(torch.arange(9, 20), 5))
    drawn = batches(stages, None, size=5)  # three and two steps an epoch
    assert [drawn.epochs(step, 8) for step in (0, 2, 3, 7)] == [1, 1, 3, 3]
    assert drawn.epochs(0, 2) == 1
    assert [drawn.epoch(step) for step in range(8)] == [0, 0, 0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("balanced_by", "size", "key", "words"),
    [
        ("colours", 6, "balanced_by", "labels, domains"),
        ("inputs", 6, "balanced_by", "'inputs'"),
        ("domains", 8, "batch_size", "multiple of 3"),
        ("domains", 18, "batch_size", "set it to 15 or less"),
    ],
)
def test_what_cannot_be_balanced_is_refused(balanced_by, size, key, words):
    splits = [(torch.zeros(20, 2), torch.arange(20) % 2)] * 3
    with pytest.raises(SettingError, match=words) as refused:
        Classification(
            lambda: torch.nn.Linear(2, 2),
            *splits,
            Optimization(batch_size=size),
            extra={"domains": (DOMAINS,) * 3},
            balanced_by=balanced_by,
        )
    assert refused.value.key == key


def test_a_step_gives_its_examples_and_their_positions():
    drawn = batches().at(4)
    assert torch.equal(drawn.batch["inputs"], drawn.index.float())
    assert torch.equal(drawn.batch["domains"], DOMAINS[drawn.index])


def test_part_of_a_batch_keeps_the_positions():
    source = batches()
    drawn = source.at(0)
    part = drawn.part(torch.tensor([4, 1]))
    assert torch.equal(part.index, drawn.index[[4, 1]])
    assert torch.equal(part.batch["inputs"], part.index.float())


def test_all_of_the_data_at_once_keep_their_order():
    source = batches(balanced_by=None, size=None)
    drawn = source.at(3)
    assert drawn.index is None
    assert torch.equal(drawn.batch["domains"], DOMAINS)
    assert drawn.part(torch.tensor([7])).batch["inputs"].tolist() == [7.0]


def test_data_may_be_nested():
    pair = torch.arange(20.0), [torch.arange(20)]
    source = MemorySource(pair, 4, Streams(0, 0, torch.device("cpu")), "epoch")
    drawn = source.at(0)
    assert isinstance(drawn.batch, tuple)
    assert torch.equal(drawn.batch[1][0], drawn.index)
