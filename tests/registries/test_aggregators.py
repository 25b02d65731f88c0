"""What every aggregator has beside its function: settings, how many members it takes, who is left out."""

import pytest
import torch

from selftune.errors import SettingError
from selftune.registries.aggregators import TooFewMembers, aggregators
from selftune.registries.registry import UnknownName

CLOSE = torch.tensor([[1.0, 2.0], [1.1, 2.1], [1.2, 1.9], [0.9, 2.0], [1.0, 2.2]])
NONSENSE = torch.tensor([[torch.nan, 2.0], [torch.inf, -torch.inf]])


def test_defaults_are_those_of_the_declared_settings():
    assert aggregators["krum"].settings({}) == {"faulty": 1}
    assert aggregators["multi_krum"].settings({"faulty": 2}) == {"faulty": 2, "selected": 0}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("krum", {"fault": 1}, "fault: unknown setting of krum; did you mean faulty?"),
        ("krum", {"faulty": 1.5}, "faulty: must be a whole number from 0 to 511, got 1.5"),
        ("coordinate_median", {"faulty": 1}, "faulty: unknown setting of coordinate_median, which has none"),
        ("geometric_median", {"epsilon": -1.0}, "epsilon: must be a positive number, got -1.0"),
    ],
)
def test_wrong_settings_are_refused(name, given, message):
    with pytest.raises(SettingError) as error:
        aggregators[name](CLOSE, **given)
    assert str(error.value) == message


def test_an_unknown_aggregator_is_refused():
    with pytest.raises(UnknownName, match="unknown aggregator 'krumm'; did you mean krum"):
        aggregators["krumm"]


def test_members_that_are_not_finite_are_left_out_and_count_as_faulty():
    krum = aggregators["krum"]
    assert torch.equal(krum(torch.cat([CLOSE, NONSENSE]), faulty=2), krum(CLOSE, faulty=0))
    assert torch.equal(krum(torch.cat([CLOSE, NONSENSE[:1]]), faulty=1), krum(CLOSE, faulty=0))
    median = aggregators["coordinate_median"]
    assert torch.equal(median(torch.cat([NONSENSE, CLOSE])), median(CLOSE))


def test_too_few_finite_members_are_refused():
    with pytest.raises(TooFewMembers, match="krum needs 3 members with finite numbers, and 2 have them"):
        aggregators["krum"](torch.cat([CLOSE[:2], NONSENSE]), faulty=1)
    with pytest.raises(TooFewMembers, match="needs 1 members"):
        aggregators["mean_aggregation"](NONSENSE)


def test_how_many_it_takes_and_tolerates():
    assert [aggregators["krum"].fewest(faulty) for faulty in (0, 1, 2)] == [3, 5, 7]
    assert [aggregators["bulyan"].fewest(faulty) for faulty in (0, 1, 2)] == [3, 7, 11]
    assert aggregators["coordinate_median"].tolerated(8) == 3
    assert aggregators["trimmed_mean"].tolerated(8, faulty=2) == 2
    assert aggregators["mean_aggregation"].tolerated(8) == aggregators["flag_aggregation"].tolerated(8) == 0
    assert aggregators["bulyan"].most_faulty(10, faulty=3) == 1
    assert aggregators["bulyan"].most_faulty(2, faulty=3) is None


@pytest.mark.parametrize("name", aggregators.names())
def test_vectors_in_parts_are_as_good_as_whole_ones(name):
    draws = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    members = torch.cat([draws, torch.full((1, 5), torch.nan, dtype=torch.float64)])
    first, second = aggregators[name].by_parts([members[:, :2], members[:, 2:]])
    torch.testing.assert_close(torch.cat([first, second]), aggregators[name](members))


def test_a_member_is_left_out_as_a_whole():
    parts = [torch.tensor([[1.0], [3.0], [torch.nan]]), torch.tensor([[1.0], [3.0], [100.0]])]
    assert [part.item() for part in aggregators["mean_aggregation"].by_parts(parts)] == [2.0, 2.0]


def test_a_result_of_directions_gets_the_usual_length():
    members = torch.tensor([[2.0, 0.0], [4.0, 0.0], [1e6, 0.0]])
    torch.testing.assert_close(aggregators["flag_aggregation"](members), torch.tensor([4.0, 0.0]))
