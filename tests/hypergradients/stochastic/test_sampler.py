import pytest
import torch

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import Sampler


@pytest.mark.parametrize("size", [1, 3, 4, 10, 99])
def test_the_batches_are_a_partition_weighted_by_size(size):
    sampler = Sampler(10, 7, size)
    for batches, examples in ((sampler.lower, 10), (sampler.upper, 7)):
        assert torch.cat([batch.index for batch in batches]).sort().values.tolist() == list(range(examples))
        assert [batch.number for batch in batches] == list(range(len(batches)))
        assert [batch.weight for batch in batches] == [len(batch.index) / examples for batch in batches]
        assert all(len(batch.index) <= size for batch in batches)


def test_batches_are_drawn_by_their_weights():
    sampler = Sampler(7, 4, 3)  # weights 3/7, 3/7, 1/7 and 3/4, 1/4
    lower, upper = torch.zeros(3), torch.zeros(2)
    for _ in range(2000):
        batches, other = sampler.draw(2)
        for batch in batches:
            lower[batch.number] += 1
        upper[other.number] += 1
    assert (lower / 4000).tolist() == pytest.approx([3 / 7, 3 / 7, 1 / 7], abs=0.03)
    assert (upper / 2000).tolist() == pytest.approx([0.75, 0.25], abs=0.03)


def numbers(sampler, draws=20):
    return [([b.number for b in lower], upper.number) for lower, upper in (sampler.draw(3) for _ in range(draws))]


def test_the_seed_decides_partition_and_draws():
    one, same, other = Sampler(40, 30, 4, seed=1), Sampler(40, 30, 4, seed=1), Sampler(40, 30, 4, seed=2)
    assert torch.equal(one.lower[0].index, same.lower[0].index)
    assert not torch.equal(one.lower[0].index, other.lower[0].index)
    assert numbers(one) == numbers(same)


def test_state_round_trip():
    one, other = Sampler(40, 30, 4), Sampler(40, 30, 4)
    numbers(one, 5)
    other.load_state_dict(one.state_dict())
    assert numbers(one) == numbers(other)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    Sampler(10, 10, 2).draw(4)
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize(
    ("sizes", "key"), [((0, 1, 1), "lower_examples"), ((1, 0, 1), "upper_examples"), ((1, 1, 0), "batch_size")]
)
def test_numbers_are_positive(sizes, key):
    with pytest.raises(SettingError, match=f"{key}: must be at least 1, got 0"):
        Sampler(*sizes)
