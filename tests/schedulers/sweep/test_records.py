import pytest
from sweep_fakes import Heard

from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.sweep.records import TrialRecords
from selftune.search import SearchSettings

VALUES = {"x": 0.5}


def records_of(members=1, mode="min", **settings):
    given = {"metric": "validation_loss", "mode": mode, "report_every": 10, "trials": 3, **settings}
    records = TrialRecords(SearchSettings(**given), members, trial_steps=100)
    records.listener = Heard()
    for number in range(2):
        records.added(f"trial{number}", number)
        records.started(f"trial{number}", VALUES, 0)
    return records


def report(records, number, step, loss=0.5, **more):
    result = {"training_step": step, "validation_loss": loss, "time_this_iter_s": 0.25, **more}
    records.reported(f"trial{number}", result)
    return records.trials[number]


def test_all_networks_of_a_trial_are_paid_and_work_done_twice_is_paid_twice():
    records = records_of(members=3)
    assert report(records, 0, 10).spent == 30
    records.started("trial0", VALUES, 0)  # it failed, and had no checkpoint
    assert report(records, 0, 10).spent == 60
    assert report(records, 1, 20).spent == 60
    assert records.spent == 120
    assert records.trials[0].seconds == 0.5


def test_a_budget_in_steps_lasts_for_reports_of_all_networks_and_no_step_more():
    records = records_of(members=2, trials=None, steps=240, report_every=40)
    assert records.lasts_for({0, 1}, new=1)
    assert not records.lasts_for({0, 1}, new=2)
    assert report(records, 0, 80).spent == 160
    assert records.lasts_for({0}), "its last report comes after twenty steps"
    assert not records.lasts_for({0, 1})
    assert not records.is_spent
    report(records, 0, 100)
    assert records.is_spent
    assert not records.lasts_for({1})


def test_a_budget_in_seconds_is_of_all_trainers_together():
    records = records_of(trials=None, seconds=4.0)
    assert report(records, 0, 10, seconds=2.5).seconds == 2.5
    assert not records.is_spent
    assert report(records, 1, 10, seconds=1.5).seconds == 1.5
    assert records.is_spent
    again = records_of(trials=None, seconds=4.0)
    again.load_state_dict(records.state_dict())
    assert again.is_spent


@pytest.mark.parametrize(("mode", "best", "step"), [("min", 0.2, 20), ("max", 0.9, 30)])
def test_the_best_value_is_kept_with_its_step(mode, best, step):
    records = records_of(mode=mode)
    for at, loss in ((10, 0.5), (20, 0.2), (30, 0.9), (40, float("nan")), (50, float("inf"))):
        report(records, 0, at, loss)
    assert (records.trials[0].best, records.trials[0].best_step) == (best, step)


@pytest.mark.parametrize(
    ("own", "donor", "next_one", "best"), [(0.2, 0.4, 0.3, 0.2), (0.4, 0.2, 0.3, 0.2), (5, 4, 3, 3)]
)
def test_a_trial_that_has_copied_another_keeps_the_best_of_both(own, donor, next_one, best):
    records = records_of()
    report(records, 0, 10, donor)
    report(records, 1, 10, own)
    records.copied("trial1", "trial0", {"x": 0.4}, 10)
    assert records.trials[1].best == own, "until it has the other's state"
    assert report(records, 1, 20, next_one).best == best


def test_how_a_trial_ends_is_told():
    records = records_of()
    report(records, 0, 100, done=True)
    records.ended("trial0")
    report(records, 1, 20, float("inf"), done=True, failed=True, message="its loss is not finite any more")
    records.ended("trial1")
    records.added("trial2", 2)
    records.started("trial2", VALUES, 0)
    assert not records.is_over
    records.ended("trial2")
    assert [records.trials[number].status for number in range(3)] == ["finished", "failed", "stopped"]
    assert records.trials[1].message == "its loss is not finite any more"
    assert records.is_over


def test_a_trial_that_never_started_leaves_no_record():
    records = records_of(trials=None, steps=20)
    records.added("trial2", 2)
    report(records, 0, 20)
    for number in range(3):
        records.ended(f"trial{number}")
    assert 2 not in records.trials
    assert records.is_over


def test_a_metric_that_no_trial_reports_is_named_with_those_that_are():
    records = records_of(metric="validation_accuracy")
    with pytest.raises(ValueError, match="no trial reports 'validation_accuracy'; trials report validation_loss"):
        report(records, 0, 10)


def test_the_state_is_everything_that_is_known():
    records = records_of(seconds=100.0)
    report(records, 0, 10)
    records.copied("trial1", "trial0", {"x": 0.4}, 10)
    again = TrialRecords(records.settings, 1, 100)
    again.load_state_dict(records.state_dict())
    assert {**again.state_dict(), "time": 0} == {**records.state_dict(), "time": 0}
    again.listener = Heard()
    again.begin()
    assert again.listener.states == [records.trials]


def test_a_trial_can_fail_before_it_starts_and_a_search_of_failures_ends():
    records = records_of(trials=None, steps=1000)
    for number in range(2, 11):
        records.added(f"trial{number}", number)
        records.failed(f"trial{number}", VALUES, "it has no network")
    assert records.trials[5].status == "failed"
    with pytest.raises(SchedulerError, match=r"10 trials failed before any reported, .* it has no network"):
        records.failed("trial0", VALUES, "it has no network")
    report(records, 1, 10)
    records.failed("trial1", VALUES, "it has no network")
