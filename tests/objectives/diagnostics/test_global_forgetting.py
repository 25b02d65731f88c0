import pytest
import torch
from selftune.objectives.diagnostics.global_forgetting import global_forgetting


@pytest.fixture
def accuracy():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 4, dtype=torch.float64, generator=generator)


def test_definition(accuracy):
    sizes = torch.tensor([5, 2, 1, 4])
    expected = 0.0
    for i in range(1, 4):
        for n in range(i):
            expected += sizes[n] / sizes[: i + 1].sum() * (accuracy[n, n] - accuracy[i, n]) / 3
    torch.testing.assert_close(global_forgetting(accuracy, sizes), expected)


def test_equal_sizes_weigh_by_the_number_of_tasks(accuracy):
    lost = accuracy.diagonal() - accuracy
    expected = sum(lost[i, :i].sum() / (i + 1) for i in range(1, 4)) / 3
    torch.testing.assert_close(global_forgetting(accuracy, torch.full((4,), 7)), expected)


def test_signs_and_what_is_not_read(accuracy):
    sizes = torch.ones(4)
    constant = accuracy[:1].expand(4, 4)
    assert global_forgetting(constant, sizes).item() == 0
    better = constant + 0.1 * torch.arange(4)[:, None]
    assert global_forgetting(better, sizes).item() < 0
    unread = torch.where(torch.ones(4, 4, dtype=torch.bool).triu(1), torch.nan, accuracy)
    torch.testing.assert_close(global_forgetting(unread, sizes), global_forgetting(accuracy, sizes))
    assert global_forgetting(torch.rand(1, 1), torch.ones(1)).item() == 0
