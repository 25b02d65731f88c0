import pytest
import torch
from selftune.objectives.regularizers.structure.bulyan import bulyan


def test_no_faulty_worker_gives_the_mean(randn):
    gradients = randn(5, 4)
    torch.testing.assert_close(bulyan(gradients, faulty=0), gradients.mean(0))


def _definition(gradients, faulty):
    """Row by row; of equal scores, the row closest to the whole pool."""
    pool, picked = list(gradients), []
    while len(picked) < len(gradients) - 2 * faulty:
        neighbours = max(len(pool) - faulty - 2, 1)
        scores = []
        for i, row in enumerate(pool):
            squared = sorted(((row - other) ** 2).sum().item() for j, other in enumerate(pool) if j != i)
            scores.append((sum(squared[:neighbours]), sum(squared)))
        picked.append(pool.pop(scores.index(min(scores))))
    chosen = torch.stack(picked)
    median = torch.quantile(chosen, 0.5, dim=0, interpolation="midpoint")
    nearest = (chosen - median).abs().argsort(dim=0)[: len(gradients) - 4 * faulty]
    return chosen.gather(0, nearest).mean(0)


@pytest.mark.parametrize(("workers", "faulty"), [(3, 0), (7, 1), (9, 1), (13, 2)])
def test_follows_the_definition(randn, workers, faulty):
    gradients = randn(workers, 5)
    torch.testing.assert_close(bulyan(gradients, faulty=faulty), _definition(gradients, faulty))


def test_equal_rows_give_the_row(randn):
    row = randn(4)
    torch.testing.assert_close(bulyan(row.expand(7, 4), faulty=1), row)


def test_far_rows_have_no_influence(randn):
    honest, far = randn(9, 4), 1e3 * randn(2, 4)
    near = bulyan(torch.cat([honest, far]), faulty=2)
    torch.testing.assert_close(bulyan(torch.cat([honest, 1e3 * far]), faulty=2), near)
    assert near.abs().max() <= honest.abs().max()


@pytest.mark.parametrize(("workers", "faulty"), [(7, 1), (11, 2), (15, 3)])
def test_ignores_the_order(randn, generator, workers, faulty):
    for _ in range(10):
        gradients = randn(workers, 4)
        permuted = gradients[torch.randperm(workers, generator=generator)]
        torch.testing.assert_close(bulyan(permuted, faulty=faulty), bulyan(gradients, faulty=faulty))


@pytest.mark.parametrize(("workers", "faulty"), [(2, 0), (6, 1), (7, -1)])
def test_too_few_workers_are_refused(randn, workers, faulty):
    with pytest.raises(ValueError, match="workers"):
        bulyan(randn(workers, 2), faulty=faulty)
