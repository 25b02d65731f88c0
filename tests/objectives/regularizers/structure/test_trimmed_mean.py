import pytest
import torch
from selftune.objectives.regularizers.structure.trimmed_mean import coordinate_median, trimmed_mean


def test_no_faulty_worker_gives_the_mean(randn):
    gradients = randn(6, 4)
    torch.testing.assert_close(trimmed_mean(gradients, faulty=0), gradients.mean(0))


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 8])
def test_most_trimmed_mean_is_the_median(randn, workers):
    gradients = randn(workers, 4)
    median = torch.quantile(gradients, 0.5, dim=0, interpolation="midpoint")
    torch.testing.assert_close(trimmed_mean(gradients, faulty=(workers - 1) // 2), median)
    torch.testing.assert_close(coordinate_median(gradients), median)


def test_trimmed_mean_ignores_how_large_the_largest_are(randn):
    gradients = randn(7, 4)
    largest = gradients.topk(2, dim=0).indices
    grown = gradients.scatter_add(0, largest, torch.full((2, 4), 1e6, dtype=torch.float64))
    torch.testing.assert_close(trimmed_mean(grown, faulty=2), trimmed_mean(gradients, faulty=2))
    assert (trimmed_mean(grown, faulty=1) > trimmed_mean(gradients, faulty=1) + 1e4).all()


def test_trimmed_mean_is_translation_equivariant(randn):
    gradients, shift = randn(5, 4), randn(4)
    torch.testing.assert_close(
        trimmed_mean(gradients + shift, faulty=1), trimmed_mean(gradients, faulty=1) + shift
    )


@pytest.mark.parametrize("faulty", [-1, 2, 3])
def test_too_few_workers_are_refused(randn, faulty):
    with pytest.raises(ValueError, match="workers"):
        trimmed_mean(randn(4, 2), faulty=faulty)


@pytest.mark.parametrize("workers", [1, 2])
def test_median_of_one_or_two_is_the_mean(randn, workers):
    gradients = randn(workers, 3)
    torch.testing.assert_close(coordinate_median(gradients), gradients.mean(0))


def test_median_stays_between_honest_values(randn):
    honest = randn(5, 4)
    median = coordinate_median(torch.cat([honest, torch.full((4, 4), -1e9, dtype=torch.float64)]))
    assert (median >= honest.amin(0)).all()
    assert (median <= honest.amax(0)).all()


def test_median_is_equivariant_to_monotone_maps_and_permutations(randn, generator):
    gradients = randn(7, 4)
    torch.testing.assert_close(coordinate_median(gradients.exp()), coordinate_median(gradients).exp())
    permuted = gradients[torch.randperm(7, generator=generator)]
    assert torch.equal(coordinate_median(permuted), coordinate_median(gradients))
