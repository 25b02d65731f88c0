import copy

import pytest
import torch

from selftune.errors import SettingError
from selftune.methods import Aggregation, SelfTuningSettings
from selftune.studies.mistakes import Mistakes
from selftune.studies.settings import build_settings

NOT_FOR_THE_MEAN = "is not for mean_aggregation, which trusts every trainer; name another aggregator"


def votes(*rows):
    return {member: [torch.tensor([row])] for member, row in enumerate(rows)}


def test_the_mean_is_the_default_and_trusts_everyone():
    aggregation = SelfTuningSettings().aggregation
    assert not aggregation.robust
    assert torch.equal(aggregation.combined(votes([1.0, 2.0], [3.0, 6.0]))[0], torch.tensor([2.0, 4.0]))


def test_a_study_file_writes_settings_of_the_aggregator_beside_its_name():
    given = {"name": "multi_krum", "faulty": 2, "selected": 1, "offences": 5}
    built = build_settings(SelfTuningSettings, {"aggregation": given, "train_steps": 2})
    assert built.aggregation == Aggregation("multi_krum", {"faulty": 2, "selected": 1}, offences=5)
    assert built.train_steps == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "krumm"}, "aggregation.name: unknown aggregator 'krumm'; did you mean krum?"),
        ({"name": "krum", "faulti": 1}, "aggregation.faulti: unknown setting of krum; did you mean faulty?"),
        ({"name": "krum", "faulty": 0.5}, "aggregation.faulty: must be a whole number from 0 to 511, got 0.5"),
        ({"name": "krum", "outlier": 1}, "aggregation.outlier: must be a number above 1, got 1"),
        ({"name": "krum", "offences": 0}, "aggregation.offences: must be at least 1, got 0"),
        ({"name": "krum", "restarts": -1}, "aggregation.restarts: must be at least 0, got -1"),
        ({"name": 3}, "aggregation.name: must be a text, got 3"),
        ({"faulty": 1}, f"aggregation.faulty: {NOT_FOR_THE_MEAN}"),
        ({"offences": 1}, f"aggregation.offences: {NOT_FOR_THE_MEAN}"),
        ("krum", "aggregation: must be a mapping of settings, got 'krum'"),
    ],
)
def test_wrong_settings_are_refused(given, message):
    with pytest.raises(Mistakes) as error:
        build_settings(SelfTuningSettings, {"aggregation": given})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "settings", "members", "size", "message"),
    [
        (
            "krum",
            {"faulty": 1},
            4,
            1,
            "krum with faulty: 1 needs at least 5 trainers, got 4; set trainers.number to 5",
        ),
        ("bulyan", {}, 6, 1, "bulyan needs at least 7 trainers, got 6; set trainers.number to 7"),
        ("krum", {}, 2, 2, "krum needs at least 5 groups of 2 trainers, got 2; set trainers.number to 10"),
        ("flag_aggregation", {}, 1, 1, "flag_aggregation needs at least 2 trainers, got 1"),
        ("multi_krum", {"faulty": 1, "selected": 4}, 6, 1, "multi_krum needs selected from 1 to 3"),
    ],
)
def test_teams_that_are_too_small_are_refused(name, settings, members, size, message):
    mistake = Aggregation(name, settings).mistake(members, size)
    assert isinstance(mistake, SettingError)
    assert mistake.key == "aggregation"
    assert mistake.message.startswith(message)


def test_teams_of_the_least_size_are_not():
    for name, members in (
        ("krum", 5),
        ("multi_krum", 5),
        ("bulyan", 7),
        ("trimmed_mean", 3),
        ("coordinate_median", 1),
    ):
        assert Aggregation(name).mistake(members) is None
    assert Aggregation().mistake(1) is None


def test_fewer_trainers_are_left_with_fewer_that_may_be_faulty():
    krum = Aggregation("krum", {"faulty": 2})
    rows = votes([1.0], [1.1], [1.3], [1.9], [50.0])
    one_faulty = Aggregation("krum", {"faulty": 1}).combined(rows)
    assert torch.equal(krum.combined(rows)[0], one_faulty[0])  # seven would be needed for two
    assert krum.refusal(3) is None
    assert krum.refusal(2) == "krum needs at least 3 trainers, and 2 are left"


def test_who_is_known_to_be_faulty_counts_as_faulty():
    krum = Aggregation("krum", {"faulty": 2})
    rows = votes([1.0], [1.1], [1.3], [1.9], [2.2], [2.3], [2.31], [2.32])
    exact = Aggregation("krum", {"faulty": 1}).combined(rows)[0]
    assert torch.equal(krum.combined(rows, missing=1)[0], exact)
    with_nonsense = {**rows, 8: [torch.tensor([[torch.nan]])]}
    assert torch.equal(krum.combined(with_nonsense)[0], exact)
    assert torch.equal(
        krum.combined(with_nonsense, missing=1)[0], Aggregation("krum", {"faulty": 0}).combined(rows)[0]
    )


def test_rows_of_one_member_have_one_vote():
    rows = {
        0: [torch.tensor([[0.0], [2.0]])],
        1: [torch.tensor([[5.0], [5.0]])],
        2: [torch.tensor([[9.0], [9.0]])],
    }
    assert Aggregation("coordinate_median").combined(rows)[0] == 5.0
    assert Aggregation().combined(rows)[0] == 5.0  # the mean of 1, 5 and 9
    assert Aggregation("trimmed_mean").combined({**rows, 3: [torch.tensor([[7.0], [7.0]])]})[0] == 6.0


def test_settings_can_be_copied_and_compared():
    aggregation = Aggregation("krum", {"faulty": 1})
    assert aggregation.entry.name == "krum"
    assert copy.deepcopy(aggregation) == aggregation != Aggregation("krum", {"faulty": 0})
