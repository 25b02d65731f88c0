"""What holds of every registered aggregator, and what each says of those who lie, taken at its word."""

import itertools

import pytest
import torch

from selftune.registries.aggregators import aggregators

NAMES = aggregators.names()
SIZES = [3, 5, 8, 11]
BALL = {"geometric_median"}
"""What is only kept within some radii of the honest ones, not in the box that they span."""
EQUIVARIANT_TO_SHIFTS = [name for name in NAMES if name != "flag_aggregation"]
EQUIVARIANT_TO_ROTATION = [name for name in NAMES if not aggregators[name].coordinatewise and name != "bulyan"]
LIES = {
    "far": lambda faulty, size: torch.full((faulty, size), 1e12),
    "very far": lambda faulty, size: -torch.full((faulty, size), 1e30),
    "in all directions": lambda faulty, size: 1e12 * torch.eye(faulty, size),
    "not a number": lambda faulty, size: torch.full((faulty, size), torch.nan),
    "infinite": lambda faulty, size: torch.full((faulty, size), torch.inf),
    "mixed": lambda faulty, size: torch.tensor([1e12, torch.nan, -torch.inf, -1e12, 1e30])[:faulty, None].expand(
        -1, size
    ),
}


def settings_for(name, members):
    """Those that take most faulty members, where there is such a setting."""
    entry = aggregators[name]
    if "faulty" not in entry.settings({}):
        return {}
    return {"faulty": entry.most_faulty(members, members)}


def honest(members, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(members, size, generator=generator, dtype=torch.float64)


TOLERANT = [
    (name, members)
    for name in NAMES
    for members in SIZES
    if aggregators[name].tolerated(members, **settings_for(name, members))
]
"""Aggregators, and of how many members they tolerate some that lie."""


@pytest.mark.parametrize("members", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_it_makes_one_vector_of_the_same_type_and_changes_none(name, members):
    rows = honest(members).float()
    before = rows.clone()
    found = aggregators[name](rows, **settings_for(name, members))
    assert found.shape == (6,)
    assert found.dtype == torch.float32
    assert torch.equal(rows, before)


@pytest.mark.parametrize("name", NAMES)
def test_equal_members_make_the_same_vector(name):
    rows = honest(1).expand(8, 6)
    torch.testing.assert_close(aggregators[name](rows, **settings_for(name, 8)), rows[0])


@pytest.mark.parametrize("members", SIZES[1:])  # of three, two are each other's nearest, and Krum takes the first
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_members_does_not_matter(name, members):
    rows, settings = honest(members), settings_for(name, members)
    shuffled = rows[torch.randperm(members, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(aggregators[name](shuffled, **settings), aggregators[name](rows, **settings))


@pytest.mark.parametrize("scale", [1e-3, 7.0])
@pytest.mark.parametrize("name", NAMES)
def test_it_scales_with_the_members(name, scale):
    rows, settings = honest(8), settings_for(name, 8)
    torch.testing.assert_close(
        aggregators[name](scale * rows, **settings),
        scale * aggregators[name](rows, **settings),
        atol=1e-4 * scale,  # what counts as no distance does not scale along
        rtol=1e-4,
    )


@pytest.mark.parametrize("name", EQUIVARIANT_TO_SHIFTS)
def test_it_shifts_with_the_members(name):
    rows, shift, settings = honest(8), honest(1, seed=5)[0], settings_for(name, 8)
    torch.testing.assert_close(
        aggregators[name](rows + shift, **settings), aggregators[name](rows, **settings) + shift
    )


@pytest.mark.parametrize("name", EQUIVARIANT_TO_ROTATION)
def test_it_turns_with_the_members(name):
    rows, settings = honest(8), settings_for(name, 8)
    turn = torch.linalg.qr(honest(6, seed=3))[0]
    torch.testing.assert_close(
        aggregators[name](rows @ turn, **settings), aggregators[name](rows, **settings) @ turn
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("name", "members"), TOLERANT)
def test_as_many_liars_as_it_tolerates_do_not_take_it_away_from_the_honest(name, members, lie, precision):
    settings = settings_for(name, members)
    faulty = aggregators[name].tolerated(members, **settings)
    rows = honest(members - faulty).to(precision)
    for places in list(itertools.combinations(range(members), faulty))[::37]:
        mixed = torch.empty(members, 6, dtype=precision)
        is_liar = torch.isin(torch.arange(members), torch.tensor(places))
        mixed[is_liar], mixed[~is_liar] = LIES[lie](faulty, 6).to(precision), rows
        found = aggregators[name](mixed, **settings)
        if name in BALL:
            centre = rows.mean(dim=0)
            radius = (rows - centre).norm(dim=1).max()
            assert (found - centre).norm() <= 2 * (members - faulty) / (members - 2 * faulty) * radius
        else:
            rounding = 10 * torch.finfo(precision).eps
            assert (found >= rows.min(dim=0).values - rounding).all()
            assert (found <= rows.max(dim=0).values + rounding).all()


@pytest.mark.parametrize("name", [name for name, members in TOLERANT if members == 11])
def test_how_far_away_liars_are_makes_no_difference(name):
    settings = settings_for(name, 11)
    faulty = aggregators[name].tolerated(11, **settings)
    rows, away = honest(11 - faulty), torch.linalg.qr(honest(6, seed=9))[0][:faulty]
    near, far, farthest = (
        aggregators[name](torch.cat([rows, scale * away]), **settings) for scale in (1e6, 1e12, 1e100)
    )
    torch.testing.assert_close(far, near, atol=1e-3, rtol=0)
    torch.testing.assert_close(farthest, near, atol=1e-3, rtol=0)


def test_the_mean_follows_a_single_liar():
    rows = torch.cat([honest(7), torch.full((1, 6), 1e12, dtype=torch.float64)])
    assert aggregators["mean_aggregation"](rows).min() > 1e11


def test_one_liar_moves_the_flag_by_no_more_than_the_usual_length():
    rows = honest(7)
    length = rows.norm(dim=1).max()
    for scale in (1e3, 1e12, 1e100):
        liar = scale * honest(1, seed=4)
        assert aggregators["flag_aggregation"](torch.cat([rows, liar])).norm() <= length


@pytest.mark.parametrize("name", NAMES)
def test_too_few_members_are_refused(name):
    entry = aggregators[name]
    with pytest.raises(ValueError, match=name):
        entry(
            honest(6)[: max(entry.fewest(1), 1) - 1], **({"faulty": 1} if "faulty" in entry.settings({}) else {})
        )
