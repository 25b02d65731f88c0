import pytest
import torch
from selftune.objectives.regularizers.adaptation.experience_replay import experience_replay


@pytest.mark.parametrize(("stored", "new", "capacity"), [(4, 3, 5), (4, 3, 9), (0, 3, 2), (4, 0, 2), (4, 3, 0)])
def test_keeps_the_largest_keys_in_order(draw, stored, new, capacity):
    old, fresh = draw(stored), draw(new)
    keys = torch.cat([old, fresh])
    kept = experience_replay(old, fresh, capacity)
    assert kept.dtype == torch.long
    assert len(kept) == min(capacity, stored + new)
    torch.testing.assert_close(keys[kept], keys.sort(descending=True).values[: len(kept)])


def test_every_position_of_the_stream_is_kept_equally_often():
    generator = torch.Generator().manual_seed(0)
    seen, capacity, runs = 12, 4, 3000
    counts = torch.zeros(seen)
    for _ in range(runs):
        keys = torch.rand(seen, generator=generator)
        memory = torch.arange(0)
        for start in range(0, seen, 3):
            positions = torch.cat([memory, torch.arange(start, start + 3)])
            memory = positions[experience_replay(keys[memory], keys[start : start + 3], capacity)]
        counts[memory] += 1
    share = capacity / seen
    assert ((counts / runs - share).abs() < 4 * (share * (1 - share) / runs) ** 0.5).all()


def test_earlier_examples_win_ties():
    assert experience_replay(torch.ones(50), torch.ones(50), 60).tolist() == list(range(60))


def test_refuses_a_negative_capacity():
    with pytest.raises(ValueError, match="must not be negative"):
        experience_replay(torch.ones(2), torch.ones(1), -1)
