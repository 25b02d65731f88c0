import torch
from finite_sums import normal

from selftune.hypergradients.stochastic.saga_table import SagaTable

WEIGHTS = [0.4, 0.4, 0.2]


def table(seed=0):
    return SagaTable.of(list(normal(seed, 3, 4)), WEIGHTS)


def weighted(rows):
    return (torch.tensor(WEIGHTS, dtype=torch.float64)[:, None] * rows).sum(dim=0)


def test_estimates_are_unbiased_over_the_batches():
    new = normal(1, 3, 4)
    estimates = torch.stack([table().estimate(number, new[number]) for number in range(3)])
    torch.testing.assert_close(weighted(estimates), weighted(new), rtol=1e-13, atol=1e-13)


def test_the_mean_follows_the_rows():
    tracked = table()
    for step in range(200):
        tracked.estimate(step % 3, normal(step, 4))
    torch.testing.assert_close(tracked.mean, weighted(tracked.rows), rtol=1e-12, atol=1e-12)
    assert torch.equal(tracked.rows[1], normal(199, 4))


def test_unchanged_rows_give_the_mean_without_noise():
    rows = normal(0, 3, 4)
    for number in range(3):
        torch.testing.assert_close(table().estimate(number, rows[number]), weighted(rows), rtol=1e-13, atol=1e-13)


def test_one_batch_returns_the_new_value_to_the_last_bit():
    single = SagaTable.of([normal(0, 1000)], [1.0])
    for seed in range(1, 6):
        assert torch.equal(single.estimate(0, normal(seed, 1000)), normal(seed, 1000))


def test_state_round_trip():
    one = table()
    one.estimate(1, normal(5, 4))
    saved = one.state_dict()
    other = SagaTable.from_state_dict(saved)
    for step in range(4):
        assert torch.equal(one.estimate(step % 3, normal(step, 4)), other.estimate(step % 3, normal(step, 4)))
    torch.testing.assert_close(saved["rows"][1], normal(5, 4), rtol=0, atol=0)  # later estimates left it alone
