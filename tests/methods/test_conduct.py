import pytest
import torch

from selftune.methods import Aggregation
from selftune.methods.conduct import Conduct

SETTINGS = Aggregation("coordinate_median", offences=2, restarts=1)
CLOSE = ([1.0, 0.0], [1.1, 0.1], [0.9, -0.1], [1.0, 0.1])


def votes(*rows, parts=1):
    return {member: list(torch.tensor([row]).chunk(parts, dim=1)) for member, row in enumerate(rows)}


def judged(conduct, *liars, settings=SETTINGS):
    return conduct.judge(votes(*CLOSE, *liars), settings)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_not_finite_is_named(nonsense, parts):
    faults = Conduct().judge(votes(*CLOSE, [0.0, nonsense], parts=parts), SETTINGS)
    assert {m: fault.reason for m, fault in faults.items()} == {4: "its hypergradient is not finite"}


@pytest.mark.parametrize("far", [[1e12, 0.0], [-1.0, 5.0], [1e30, -1e30]])
def test_what_is_far_off_is_named(far):
    (fault,) = judged(Conduct(), far).values()
    assert "times as far from the team's median as usual" in fault.reason


@pytest.mark.parametrize("near", [[1.0, 0.0], [1.2, 0.2], [0.6, 0.3]])
def test_what_is_not_far_off_is_not(near):
    assert judged(Conduct(), near) == {}


def test_the_smallest_factor_is_a_setting():
    off = [1.5, 0.0]
    assert judged(Conduct(), off) == {}
    assert list(judged(Conduct(), off, settings=Aggregation("krum", outlier=2.0))) == [4]


def test_of_two_nobody_knows_which_is_far_off():
    assert Conduct().judge(votes([1.0], [1e12]), SETTINGS) == {}
    assert list(Conduct().judge(votes([1.0], [torch.nan]), SETTINGS)) == [1]


def test_equal_hypergradients_may_differ_by_rounding():
    rows = [[1.0], [1.0], [1.0], [1.0 + 1e-6]]
    assert Conduct().judge(votes(*rows), SETTINGS) == {}
    assert list(Conduct().judge(votes(*rows[:3], [1.1]), SETTINGS)) == [3]


def test_members_that_happen_to_agree_do_not_make_others_far_off():
    conduct = Conduct()
    for _ in range(3):
        conduct.judge(votes([0.0], [1.0], [-1.0]), SETTINGS)
    assert conduct.judge(votes([0.0], [1e-4], [1.0]), SETTINGS) == {}
    assert list(Conduct().judge(votes([0.0], [1e-4], [1.0]), SETTINGS)) == [2]


def test_honest_noise_is_hardly_ever_named():
    generator, conduct = torch.Generator().manual_seed(0), Conduct()
    named = 0
    for _ in range(2000):
        rows = 0.1 + torch.randn(5, 7, generator=generator)
        named += len(conduct.judge({m: [row[None]] for m, row in enumerate(rows)}, SETTINGS))
    assert named == 0
    assert conduct.exclusions == {}


def test_one_is_excluded_after_offences_in_a_row_and_for_good_when_it_has_started_again_often_enough():
    conduct, liar = Conduct(), [1e12, 0.0]
    assert judged(conduct, liar)[4].first
    assert judged(conduct, CLOSE[0]) == {}
    assert not judged(conduct, liar)[4].remark
    second = judged(conduct, liar)[4]
    assert not second.first
    assert second.remark == "excluded, to start again from the network of another trainer"
    assert conduct.unheard == {4}
    came_back(conduct)
    judged(conduct, liar)
    assert judged(conduct, liar)[4].final


def came_back(conduct):
    conduct.send(range(5), "key")
    for _ in range(3):
        conduct.advance(())
    assert conduct.exclusions == {}


def test_the_way_back_takes_a_cycle_for_keeping_a_state_and_one_for_starting_from_it():
    conduct = Conduct()
    judged(conduct, [1e12, 0.0])
    judged(conduct, [1e12, 0.0])
    stages = [conduct.exclusions[4].stage]
    conduct.send(range(5), "key")
    one = conduct.exclusions[4]
    stages.append(one.stage)
    assert (one.source, one.key) == (0, "key")
    for heard in (True, True):
        conduct.advance(())
        stages.append(one.stage)
        assert (4 not in conduct.unheard) == heard
    assert stages == ["waiting", "kept", "starting", "back"]
    conduct.advance(())
    assert conduct.exclusions == {}


def excluded(stage):
    conduct = Conduct()
    judged(conduct, [1e12, 0.0])
    judged(conduct, [1e12, 0.0])
    conduct.send(range(5), "key")
    if stage == "starting":
        conduct.advance(())
    return conduct


def test_a_state_that_did_not_arrive_is_sent_again():
    conduct = excluded("starting")
    conduct.advance({4})
    assert conduct.unheard == {4}
    conduct.send(range(5), "other")
    assert conduct.exclusions[4].key == "other"


@pytest.mark.parametrize("stage", ["kept", "starting"])
def test_another_one_sends_its_state_when_the_source_is_gone(stage):
    conduct = excluded(stage)
    conduct.leave(0)
    conduct.send([1, 2, 3, 4], "other")
    assert (conduct.exclusions[4].source, conduct.exclusions[4].stage) == (1, "kept")


def test_nobody_starts_from_the_state_of_one_that_is_outvoted_itself():
    conduct = excluded("kept")
    liars = votes([1e12, 0.0], *CLOSE[1:])
    conduct.judge(liars, SETTINGS)
    conduct.advance(())
    assert conduct.exclusions[4].stage == "waiting"
    conduct.send(range(5), "other")
    assert conduct.exclusions[4].source == 1


def test_one_waits_while_nobody_is_in_good_standing():
    conduct = excluded("kept")
    conduct.leave(0)
    conduct.in_a_row = dict.fromkeys(range(4), 1)
    conduct.send(range(5), "other")
    assert conduct.exclusions[4].stage == "waiting"
