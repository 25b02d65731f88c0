from itertools import pairwise

import pytest
import torch
from selftune.objectives.diagnostics.continual_evaluation import continual_evaluation

BOUNDARIES = torch.tensor([0, 5, 12, 20])


@pytest.fixture
def accuracy():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(20, 3, dtype=torch.float64, generator=generator)


def by_loops(accuracy, boundaries, window):
    """The eight definitions, entry by entry."""
    steps, tasks = accuracy.shape
    a, b = accuracy.tolist(), boundaries.tolist()
    last, old = a[-1], range(tasks - 1)

    def mean(values):
        values = list(values)
        return sum(values) / len(values) if values else 0.0

    def largest(i, sign):
        pairs = [(n, m) for n in range(b[i], steps) for m in range(n + 1, min(n + window, steps))]
        return max([0.0, *(sign * (a[n][i] - a[m][i]) for n, m in pairs)])

    minimum = mean(min(a[n][i] for n in range(b[i + 1], steps)) for i in old)
    switches = [(k, i, min(a[n][i] for n in range(b[k], b[k + 1]))) for k in range(1, tasks) for i in range(k)]
    return (
        mean(last),
        mean(a[b[i + 1] - 1][i] - last[i] for i in old),
        minimum,
        last[-1] / tasks + (1 - 1 / tasks) * minimum,
        mean(largest(i, 1) for i in range(tasks)),
        mean(largest(i, -1) for i in range(tasks)),
        mean(a[b[k] - 1][i] - low for k, i, low in switches),
        mean(a[b[k + 1] - 1][i] - low for k, i, low in switches),
    )


@pytest.mark.parametrize("window", [1, 2, 4, 10, 50])
def test_definitions(accuracy, window):
    measures = continual_evaluation(accuracy, BOUNDARIES, window)
    assert [m.item() for m in measures] == pytest.approx(by_loops(accuracy, BOUNDARIES, window))


def test_constant_accuracies():
    measures = continual_evaluation(torch.full((20, 3), 0.7, dtype=torch.float64), BOUNDARIES)
    assert [m.item() for m in measures] == pytest.approx([0.7, 0, 0.7, 0.7, 0, 0, 0, 0])


def test_bounds(accuracy):
    measures = continual_evaluation(accuracy, BOUNDARIES)
    assert measures.minimum_accuracy <= accuracy[-1, :2].mean()
    assert measures.worst_case_accuracy <= measures.average_accuracy


def test_a_dip_that_recovers():
    accuracy = torch.full((12, 2), 0.9, dtype=torch.float64)
    accuracy[6:8, 0] = 0.5
    measures = continual_evaluation(accuracy, torch.tensor([0, 5, 12]))
    assert measures.gap_depth.item() == pytest.approx(0.4)
    assert measures.gap_recovery.item() == pytest.approx(0.4)
    assert measures.forgetting.item() == 0


def test_windows(accuracy):
    measures = [continual_evaluation(accuracy, BOUNDARIES, window) for window in range(1, 20)]
    for smaller, larger in pairwise(measures):
        assert larger.windowed_forgetting >= smaller.windowed_forgetting
        assert larger.windowed_plasticity >= smaller.windowed_plasticity
    mirrored = continual_evaluation(1 - accuracy, BOUNDARIES, 5)
    torch.testing.assert_close(mirrored.windowed_plasticity, measures[4].windowed_forgetting)


def test_a_single_task_forgets_nothing(accuracy):
    measures = continual_evaluation(accuracy[:, :1], torch.tensor([0, 20]))
    assert measures.worst_case_accuracy == measures.average_accuracy == accuracy[-1, 0]
    assert not any((measures.forgetting, measures.minimum_accuracy, measures.gap_depth, measures.gap_recovery))


@pytest.mark.parametrize("boundaries", [[0, 5, 12], [1, 5, 12, 20], [0, 5, 12, 19], [0, 12, 5, 20], [0, 5, 5, 20]])
def test_refuses_other_boundaries(accuracy, boundaries):
    with pytest.raises(ValueError, match="must rise from 0 to 20"):
        continual_evaluation(accuracy, torch.tensor(boundaries))


def test_refuses_an_empty_window(accuracy):
    with pytest.raises(ValueError, match="window must be at least 1"):
        continual_evaluation(accuracy, BOUNDARIES, 0)


def test_tasks_that_have_not_begun_do_not_count(accuracy):
    early = continual_evaluation(accuracy[:12], torch.tensor([0, 5, 12, 12]))
    assert early == continual_evaluation(accuracy[:12, :2], torch.tensor([0, 5, 12]))
