import copy

import pytest
import torch
from selftune.objectives.regularizers.structure.ordered_low_rank import OrderedLowRank, ordered_low_rank

from selftune.regularization.regularizer import regularizers


def test_all_components_are_the_dense_product(randn):
    inputs, up, down = randn(5, 4), randn(3, 3), randn(3, 4)
    torch.testing.assert_close(ordered_low_rank(inputs, up, down, keep=3), inputs @ (up @ down).T)


def test_outputs_are_nested(randn):
    inputs, up, down = randn(5, 4), randn(3, 3), randn(3, 4)
    assert ordered_low_rank(inputs, up, down, keep=0).eq(0).all()
    for k in range(3):
        term = torch.outer(inputs @ down[k], up[:, k])
        difference = ordered_low_rank(inputs, up, down, keep=k + 1) - ordered_low_rank(inputs, up, down, keep=k)
        torch.testing.assert_close(difference, term)


def test_cut_components_have_no_gradient(randn):
    up, down = randn(3, 3).requires_grad_(), randn(3, 4).requires_grad_()
    to_up, to_down = torch.autograd.grad(ordered_low_rank(randn(5, 4), up, down, keep=2).sum(), (up, down))
    assert to_up[:, 2].eq(0).all()
    assert to_down[2].eq(0).all()
    assert (to_up[:, :2] != 0).all()
    assert (to_down[:2] != 0).all()


@pytest.mark.parametrize("keep", [-1, 4])
def test_keep_out_of_range_is_refused(randn, keep):
    with pytest.raises(ValueError, match="from 0 to 3"):
        ordered_low_rank(randn(5, 4), randn(3, 3), randn(3, 4), keep=keep)


def _factors(trained, layer=0):
    return [trained.lower.parameters[f"{layer}.parametrizations.weight.0.{side}"] for side in ("up", "down")]


def test_the_network_starts_as_it_is(trainer, objective):
    inputs = objective.splits()["test"]["inputs"]
    torch.testing.assert_close(
        trainer(OrderedLowRank()).lower.network(inputs), trainer().lower.network(inputs), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("sampler", ["single", "independent"])
def test_widths_are_whole_and_every_component_takes_part(trainer, sampler):
    made = trainer(OrderedLowRank(sampler=sampler))
    member, lower = made.lower.regularizers.members[0], made.lower
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    drawn = [{layer: int(width) for layer, width in member._draw(step).items()} for _ in range(400)]
    assert {d["0"] for d in drawn} == set(range(1, 7))
    assert {d["2"] for d in drawn} == set(range(1, 13))
    if sampler == "single":
        assert all((d["0"] == 6) or (d["2"] == 12) for d in drawn)


def test_components_below_the_threshold_vanish_after_an_epoch(trainer):
    lasso = regularizers["hierarchical_group_lasso"](strength=0.05)
    trained = trainer(OrderedLowRank(threshold=0.3), lasso, steps=17)  # four steps are an epoch
    up, down = _factors(trained)
    importance = torch.stack([up[:, j:].norm() * down[j:].norm() for j in range(6)])
    kept = importance > 0
    assert 0 < kept.sum() < 6
    assert kept.tolist() == sorted(kept.tolist(), reverse=True)
    assert torch.linalg.matrix_rank(trained.plain_network()[0].weight, rtol=1e-5) == kept.sum()


@pytest.mark.parametrize("sampler", ["single", "independent"])
def test_widths_are_drawn_among_the_components_that_are_left(trainer, sampler):
    made = trainer(OrderedLowRank(sampler=sampler, threshold=0.5))
    member, lower = made.lower.regularizers.members[0], made.lower
    with torch.no_grad():
        for layer, rank in ((0, 2), (2, 5)):
            for factor in _factors(made, layer):
                factor.fill_(1.0)
            _factors(made, layer)[0][:, rank:] = 1e-3
            _factors(made, layer)[1][rank:] = 1e-3
    values = lower.space.values(lower.space.start)
    step = lower.begin(4, lower.batches.at(4), values, "elementary")  # the first step of the second epoch
    drawn = [{layer: int(width) for layer, width in member._draw(step).items()} for _ in range(400)]
    assert {d["0"] for d in drawn} == {1, 2}
    assert {d["2"] for d in drawn} == {1, 2, 3, 4, 5}
    if sampler == "single":
        cut_first = sum(d["0"] < 2 for d in drawn)  # one of the seven pairs of layer and width
        assert 0 < cut_first < 400 / 4


def test_what_has_vanished_stays_away_whatever_moments_say(trainer, go_on):
    lasso = regularizers["hierarchical_group_lasso"](strength=0.05)
    trained = trainer(OrderedLowRank(threshold=0.3), lasso, steps=17)
    gone = _factors(trained)[0].norm(dim=0) == 0
    assert gone.any()
    for _ in range(3):
        go_on(trained, 1)
        assert (_factors(trained)[0][:, gone] == 0).all()
        assert (_factors(trained)[1][gone] == 0).all()


def test_a_saved_trainer_knows_what_is_left(trainer, go_on):
    def made(steps=0):
        lasso = regularizers["hierarchical_group_lasso"](strength=0.05)
        return trainer(OrderedLowRank(threshold=0.3), lasso, steps=steps)

    first, second = made(steps=17), made()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for trained in (first, second):
        go_on(trained, 6)
    for one, two in zip(_factors(first), _factors(second), strict=True):
        assert torch.equal(one, two)


def test_components_of_a_linear_map_on_white_inputs_become_ordered():
    """Truncated at random, a factorised linear map learns the singular directions of its target in order."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q for _ in range(2))
    target = left @ torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.5])) @ right
    up, down = (torch.randn(4, 4, generator=generator).mul_(0.5).requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([up, down], lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        sum(
            (ordered_low_rank(torch.eye(4), up, down, keep=k) - target.T).square().sum() for k in range(1, 5)
        ).backward()
        optimizer.step()
    for keep in range(1, 5):
        cut = up[:, :keep] @ down[:keep]
        best = left[:, :keep] @ torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.5])[:keep]) @ right[:keep]
        torch.testing.assert_close(cut, best, atol=0.05, rtol=0)
