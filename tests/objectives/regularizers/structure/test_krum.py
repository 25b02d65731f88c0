import pytest
import torch
from selftune.objectives.regularizers.structure.krum import krum, multi_krum

from selftune.regularization.regularizer import regularizers


def _scores(gradients, faulty):
    """The definition, row by row."""
    scores = []
    for i, row in enumerate(gradients):
        squared = sorted(((row - other) ** 2).sum().item() for j, other in enumerate(gradients) if j != i)
        scores.append(sum(squared[: len(gradients) - faulty - 2]))
    return torch.tensor(scores)


@pytest.mark.parametrize(("workers", "faulty"), [(3, 0), (5, 1), (9, 2), (9, 3)])
def test_follows_the_definition(randn, workers, faulty):
    gradients = randn(workers, 4)
    order = _scores(gradients, faulty).argsort()
    assert torch.equal(krum(gradients, faulty=faulty), gradients[order[0]])
    best = gradients[order[: workers - faulty - 2]].mean(0)
    torch.testing.assert_close(multi_krum(gradients, faulty=faulty), best)


def test_ties_go_to_the_smaller_index():
    gradients = torch.tensor([[1.0], [0.0], [1.0], [0.0], [9.0]], dtype=torch.float64)  # four equal scores
    assert krum(gradients, faulty=1) == 1
    assert krum(gradients[[1, 0, 2, 3, 4]], faulty=1) == 0


def test_is_equivariant_to_rotation_and_translation(randn, rotation):
    gradients, matrix, shift = randn(7, 4), rotation(4), randn(4)
    torch.testing.assert_close(
        krum(gradients @ matrix + shift, faulty=2), krum(gradients, faulty=2) @ matrix + shift
    )


def test_far_rows_are_never_taken(randn):
    honest, far = randn(7, 4), 1e6 * randn(2, 4)
    chosen = krum(torch.cat([far, honest]), faulty=2)
    assert (honest == chosen).all(1).any()
    assert multi_krum(torch.cat([far, honest]), faulty=2).norm() < honest.norm(dim=1).max()


def test_takes_one_of_a_cluster_of_equal_rows(randn):
    row = 1e3 + randn(1, 4)
    assert torch.equal(krum(torch.cat([randn(2, 4), row.expand(5, 4)]), faulty=2), row[0])


def test_one_selected_is_krum(randn):
    gradients = randn(8, 3)
    assert torch.equal(multi_krum(gradients, faulty=2, selected=1), krum(gradients, faulty=2))


def test_multi_krum_ignores_the_order_and_keeps_equal_rows(randn, generator):
    gradients = randn(8, 3)
    permuted = gradients[torch.randperm(8, generator=generator)]
    torch.testing.assert_close(multi_krum(permuted, faulty=2), multi_krum(gradients, faulty=2))
    equal = gradients[:1].expand(8, 3)
    torch.testing.assert_close(multi_krum(equal, faulty=2), gradients[0])


@pytest.mark.parametrize(("workers", "faulty"), [(4, 1), (6, 2), (5, -1)])
def test_too_few_workers_are_refused(randn, workers, faulty):
    with pytest.raises(ValueError, match="workers"):
        krum(randn(workers, 2), faulty=faulty)


@pytest.mark.parametrize("selected", [0, 4])
def test_selecting_too_many_or_none_is_refused(randn, selected):
    with pytest.raises(ValueError, match="selected"):
        multi_krum(randn(6, 2), faulty=1, selected=selected)


def test_training_takes_the_gradient_of_one_part_of_the_batch(trainer):
    one = trainer(regularizers["multi_krum"](workers=8, faulty=2, selected=1), steps=3)
    same = trainer(regularizers["krum"](workers=8, faulty=2), steps=3)
    default = trainer(regularizers["multi_krum"](workers=8, faulty=2), steps=3)
    four = trainer(regularizers["multi_krum"](workers=8, faulty=2, selected=4), steps=3)
    weights = [t.lower.parameters["0.weight"] for t in (one, same, default, four)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[0], weights[2])
