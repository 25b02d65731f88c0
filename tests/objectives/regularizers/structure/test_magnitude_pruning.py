import itertools

import pytest
import torch
from selftune.objectives.regularizers.structure.magnitude_pruning import MagnitudePruning, magnitude_pruning

from selftune.errors import SettingError
from selftune.methods.work_orders import FollowSchedule
from selftune.training import Trainer

SPARSITIES = [0.0, 0.25, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_removes_exactly_the_smallest(randn, sparsity):
    weight = randn(3, 7)
    mask = magnitude_pruning(weight, sparsity=sparsity)
    assert (~mask).sum() == int(sparsity * 21)
    if 0 < mask.sum() < 21:
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
    assert torch.equal(magnitude_pruning(weight, sparsity=torch.tensor(sparsity)), mask)


def test_masks_are_nested(randn):
    weight = randn(3, 7)
    masks = [magnitude_pruning(weight, sparsity=sparsity) for sparsity in SPARSITIES]
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(masks))


def test_ties_remove_the_smaller_index_first():
    weight = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert magnitude_pruning(weight, sparsity=0.5).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_pruned_weights_stay_zero_between_prunings(trainer, go_on, scope):
    trained = trainer(MagnitudePruning(sparsity=0.5, every=4, scope=scope), steps=1)
    weights = [trained.lower.network[layer].weight for layer in (0, 2, 4)]
    zeros = [weight == 0 for weight in weights]
    share = torch.cat([z.flatten() for z in zeros]).double().mean()
    assert share == 0.5
    if scope == "layer":
        assert all(z.double().mean() == 0.5 for z in zeros)
    go_on(trained, 3)
    assert all(torch.equal(weight == 0, z) for weight, z in zip(weights, zeros, strict=True))
    go_on(trained, 10)
    assert torch.cat([(w == 0).flatten() for w in weights]).double().mean() == 0.5


def test_global_ranking_has_no_parts(trainer):
    with pytest.raises(SettingError, match="one sparsity"):
        trainer(MagnitudePruning(parts="layer"))
    trained = trainer(MagnitudePruning(parts={"first": ["0"]}, scope="layer", every=1, sparsity=0.25), steps=2)
    assert (trained.lower.network[0].weight == 0).double().mean() == 0.25
    assert trained.lower.network[2].weight.ne(0).all()


def test_sparsity_grows_as_a_cube_between_two_shares_of_training(objective):
    pruning = MagnitudePruning(sparsity=0.8, initial=0.2, begin=0.25, end=0.75, every=1)
    trained = Trainer(objective, [pruning], steps=40)
    weights = [trained.lower.network[layer].weight for layer in (0, 2, 4)]
    size = sum(w.numel() for w in weights)
    for number in range(40):
        trained.execute(FollowSchedule(segments=((1, torch.empty(0)),)))
        left = 1 - min(max((number / 40 - 0.25) / 0.5, 0.0), 1.0)
        removed = sum(int((w == 0).sum()) for w in weights)
        assert removed == pytest.approx((0.8 - 0.6 * left**3) * size, abs=1)


@pytest.mark.parametrize(
    ("settings", "steps", "sentence"),
    [({"begin": 0.5, "end": 0.4}, 40, "above begin = 0.5"), ({"end": 0.5}, None, "only a budget in steps knows")],
)
def test_a_schedule_that_cannot_be_is_refused(objective, settings, steps, sentence):
    with pytest.raises(SettingError, match=sentence):
        Trainer(objective, [MagnitudePruning(**settings)], steps=steps)
