import pytest
import torch
from selftune.objectives.regularizers.structure.geometric_median import geometric_median


def _total_distance(gradients, point):
    return (gradients - point).norm(dim=1).sum()


@pytest.mark.parametrize("workers", [3, 6, 9])
def test_minimises_the_total_distance(randn, workers):
    gradients = randn(workers, 4)
    median = geometric_median(gradients)
    # Where the optimum is a worker's gradient, the iteration comes close only slowly.
    least = (1 - 1e-4) * _total_distance(gradients, median)
    others = [*gradients, gradients.mean(0), *(median + 1e-1 * randn(20, 4)), *(median + randn(20, 4))]
    assert all(_total_distance(gradients, other) >= least for other in others)


def test_is_the_median_on_a_line(randn):
    gradients = randn(7, 1)
    torch.testing.assert_close(geometric_median(gradients), gradients.median(0).values, atol=1e-5, rtol=0)


def test_leaves_a_start_at_a_worker_that_is_not_the_optimum():
    gradients = torch.tensor([[-8.0], [0.0], [1.0], [3.0], [4.0]], dtype=torch.float64)  # mean 0, median 1
    torch.testing.assert_close(geometric_median(gradients).item(), 1.0, atol=1e-5, rtol=0)


def test_is_equivariant_to_rotation_translation_and_scale(randn, rotation):
    gradients, matrix, shift = randn(6, 4), rotation(4), randn(4)
    torch.testing.assert_close(
        geometric_median(3 * gradients @ matrix + shift), 3 * geometric_median(gradients) @ matrix + shift
    )


def test_a_majority_of_equal_rows_is_returned(randn):
    row = randn(4)
    median = geometric_median(torch.cat([row.expand(4, 4), 1e3 * randn(3, 4)]))
    torch.testing.assert_close(median, row, atol=1e-4, rtol=0)


def test_no_iteration_gives_the_mean_and_a_loose_tolerance_one_step(randn):
    gradients = randn(5, 3)
    assert torch.equal(geometric_median(gradients, iterations=0), gradients.mean(0))
    assert torch.equal(
        geometric_median(gradients, tolerance=10.0), geometric_median(gradients, iterations=1, tolerance=0.0)
    )


def test_gradients_a_billion_times_farther_away_change_little(randn):
    near, directions = randn(5, 4).float(), randn(2, 4).float()
    medians = [geometric_median(torch.cat([near, scale * directions])) for scale in (1e6, 1e9)]
    torch.testing.assert_close(*medians, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("honest", "faulty"), [(6, 5), (11, 10)])
def test_half_of_the_workers_without_one_cannot_put_it_anywhere(randn, honest, faulty):
    rows = randn(honest, 4)
    for away in (1e3, 1e9, 1e12, 1e30):
        median = geometric_median(torch.cat([rows, away * torch.ones(faulty, 4, dtype=torch.float64)]))
        radius = (rows - rows.mean(0)).norm(dim=1).max()
        assert (median - rows.mean(0)).norm() <= 2 * honest / (honest - faulty) * radius


def test_moving_a_far_gradient_closer_moves_the_median_by_little(randn):
    rows, far = randn(5, 3), randn(2, 3)
    close = geometric_median(torch.cat([rows, 2e3 * far]))  # not yet far enough to be moved
    torch.testing.assert_close(geometric_median(torch.cat([rows, 2e7 * far])), close, atol=1e-2, rtol=0)
