"""What Tune's schedulers remember and decide, driven by hand."""

from types import SimpleNamespace

import pytest
from by_hand import half_way, memory, restored, start, trial_of, tune_of
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from sweep_fakes import SETTINGS

from selftune.schedulers.ending import Ending
from selftune.schedulers.sweep.records import START
from selftune.schedulers.sweep.sweep_record import SweepRecord
from selftune.search.trial_schedulers import AshaSettings, HyperbandSettings, NoScheduler, PbtSettings

SCHEDULERS = {"none": NoScheduler()} | {name: given["scheduler"] for name, given in SETTINGS.items()}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_a_scheduler_remembers_is_the_same_after_a_restart(name):
    tune = half_way(SCHEDULERS[name])
    again = restored(tune, SCHEDULERS[name])
    assert memory(again.scheduler) == memory(tune.scheduler)
    paused = {trial.trial_id for trial in tune.trials if trial.status == Trial.PAUSED}
    assert {trial.trial_id for trial in again.trials if trial.status == Trial.PAUSED} >= paused


def test_asha_judges_by_the_rungs_of_before():
    asha = AshaSettings(10, reduction_factor=2)
    tune = half_way(asha)
    for search in (tune, restored(tune, asha)):
        late = trial_of(20)
        search.add(late)
        start(search, late)
        assert search.report(late, 10, 2.0) == TrialScheduler.STOP


def test_hyperband_halves_a_bracket_whose_trials_reported_before_and_after():
    tune = tune_of(HyperbandSettings())
    trials = [trial_of(number) for number in range(8)]  # a bracket of three, which train in full, and one of five
    for trial in trials:
        tune.add(trial)
        start(tune, trial)
    for number in (3, 4):
        assert tune.report(trials[number], 40, float(number)) == TrialScheduler.PAUSE
    again = restored(tune, HyperbandSettings())
    for number in (5, 6, 7):
        trial = again.scheduler.going[number]
        start(again, trial)
        decision = again.report(trial, 40, float(number))
    assert decision == TrialScheduler.STOP
    assert sorted(again.stopped) == ["trial5", "trial6"]


def test_a_failed_trial_that_is_queued_again_keeps_its_place():
    tune = half_way(HyperbandSettings())
    before = memory(tune.scheduler)
    trial = next(trial for trial in tune.trials if trial.status == Trial.RUNNING)
    trial.config[START] = {"folder": "saved", "step": 40}  # as its last report
    die(tune, trial)
    assert memory(tune.scheduler) == before


def at_a_rung():
    """A bracket of five: three wait at its rung, the fourth starts again from its beginning, the last trains."""
    tune = tune_of(HyperbandSettings())
    trials = [trial_of(number) for number in range(8)]  # a bracket of three, which train in full, and one of five
    for trial in trials:
        tune.add(trial)
    for trial in trials[3:]:
        start(tune, trial)
    for number in (3, 4, 5, 6):
        assert tune.report(trials[number], 40, float(number)) == TrialScheduler.PAUSE
    trials[6].status = Trial.RUNNING  # Tune pauses it once it has saved its state
    die(tune, trials[6])
    return tune, trials


def die(tune, trial):
    """The worker of a trial dies, and Tune queues the trial again."""
    trial.max_failures, trial.storage = (
        2,
        SimpleNamespace(trial_driver_staging_path=""),
    )  # where its error would be
    tune.scheduler.on_trial_error(tune, trial)
    trial.status, trial.storage = Trial.PENDING, None
    tune.scheduler.on_trial_add(tune, trial)


@pytest.mark.parametrize("status", [Trial.PENDING, Trial.RUNNING])
def test_a_bracket_waits_for_a_trial_that_died_before_it_was_saved_at_the_rung(status):
    tune, trials = at_a_rung()
    trials[6].status = status
    assert tune.report(trials[7], 40, 7.0) == TrialScheduler.PAUSE
    assert tune.stopped == []
    start(tune, trials[6])
    assert tune.report(trials[6], 30, 6.0) == TrialScheduler.CONTINUE
    assert tune.report(trials[6], 40, 6.0) == TrialScheduler.STOP
    assert tune.stopped == ["trial7", "trial5"], "the worst, of which one reported last"


def test_a_bracket_waits_for_such_a_trial_in_another_driver_too():
    tune, trials = at_a_rung()
    assert tune.report(trials[7], 40, 7.0) == TrialScheduler.PAUSE
    again = restored(tune, HyperbandSettings(), saves=False)
    assert again.stopped == []
    assert memory(again.scheduler)["_num_stopped"] == "0"
    late = again.scheduler.going[6]
    start(again, late)
    assert again.report(late, 40, 6.0) == TrialScheduler.STOP


def test_a_bracket_waits_for_a_trial_whose_driver_died_before_it_was_saved_at_the_rung():
    tune = tune_of(HyperbandSettings())
    trials = [trial_of(number) for number in range(8)]
    for trial in trials:
        tune.add(trial)
    for trial in trials[3:]:
        start(tune, trial)
    for number in (3, 4, 5, 6):
        tune.report(trials[number], 40, float(number))
    trials[6].status = Trial.RUNNING
    again = restored(tune, HyperbandSettings(), saves=False)
    for number in (6, 7):
        start(again, again.scheduler.going[number])
    assert again.report(again.scheduler.going[7], 40, 7.0) == TrialScheduler.PAUSE
    assert again.report(again.scheduler.going[6], 40, 6.0) == TrialScheduler.STOP


def stopping(scheduler, **settings):
    """A search that is asked to stop while one trial trains and another one starts; what it has ended."""
    tune = tune_of(scheduler, **settings)
    for number in range(2):
        tune.add(trial_of(number))
    tune.scheduler.admission.fit = 2
    ended = []
    tune.scheduler.ending = Ending(lambda: True, lambda: ended.append(True))
    start(tune, tune.trials[0])
    tune.trials[1].status = Trial.PENDING
    tune.scheduler.choose_trial_to_run(tune)
    return tune, ended


def saving(trial, is_saving=True):
    trial.temporary_state.saving_to = "a folder" if is_saving else None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_stopped_sweep_waits_for_the_state_of_a_trial_that_started_late_and_has_reported(name):
    tune, ended = stopping(SCHEDULERS[name])
    early, late = tune.trials
    start(tune, late)
    tune.report(late, 10, 0.5)
    saving(late)
    tune.report(early, 10, 0.5)
    tune.scheduler.choose_trial_to_run(tune)
    assert not ended
    saving(late, False)
    tune.scheduler.choose_trial_to_run(tune)
    assert ended
    assert tune.scheduler.records.spent == 20


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_stopped_sweep_does_not_count_a_report_whose_state_is_not_saved_any_more(name):
    tune, ended = stopping(SCHEDULERS[name])
    early, late = tune.trials
    start(tune, late)
    tune.report(early, 10, 0.5)
    tune.scheduler.choose_trial_to_run(tune)
    assert ended
    length = len(tune.scheduler.history)
    assert tune.report(late, 10, 0.5) == TrialScheduler.NOOP  # in what is left of the last round
    assert (tune.scheduler.records.spent, len(tune.scheduler.history)) == (10, length)
    assert tune.scheduler.records.trials[1].training_step == 0


def test_failures_count_since_the_last_checkpoint(tmp_path):
    tune = half_way(HyperbandSettings())
    trial = next(trial for trial in tune.trials if trial.status == Trial.RUNNING)
    trial.max_failures, trial.run_metadata.num_failures = 2, 3
    assert not trial.should_recover()
    SweepRecord(tmp_path, tune.scheduler, tune.scheduler.records, kept=3).on_trial_save(0, tune.trials, trial)
    assert trial.should_recover()


def test_a_diverged_trial_is_the_worst():
    tune = tune_of(AshaSettings(10, reduction_factor=2))
    for number, loss in enumerate((0.5, 0.4, 0.3)):
        trial = trial_of(number)
        tune.add(trial)
        start(tune, trial)
        tune.report(trial, 10, loss)
    diverged = trial_of(3)
    tune.add(diverged)
    start(tune, diverged)
    assert tune.report(diverged, 10, float("nan")) == TrialScheduler.STOP


def test_a_spent_budget_stops_every_trial_with_its_next_report_and_those_that_wait():
    tune = tune_of(HyperbandSettings(), steps=50)
    trials = [trial_of(number) for number in range(4)]
    for trial in trials:
        tune.add(trial)
    for trial in trials[:2]:
        start(tune, trial)
    assert tune.report(trials[0], 30, 0.5) == TrialScheduler.CONTINUE
    assert tune.report(trials[1], 20, 0.5) == TrialScheduler.STOP
    assert tune.scheduler.choose_trial_to_run(tune) is None
    assert tune.stopped == ["trial2", "trial3"]
    assert tune.report(trials[0], 40, 0.5) == TrialScheduler.STOP


def test_no_trial_goes_on_whose_next_report_the_budget_does_not_last_for():
    tune = tune_of(PbtSettings(20), trials=3, steps=45)
    trials = [trial_of(number) for number in range(3)]
    tune.scheduler.admission.fit = 3
    for trial in trials:
        tune.add(trial)
    for trial in trials[:2]:
        start(tune, trial)
    assert tune.report(trials[0], 10, 0.5) == TrialScheduler.CONTINUE
    tune.scheduler.choose_trial_to_run(tune)
    assert tune.stopped == [], "the third one's first report is within the budget"
    assert tune.report(trials[1], 10, 0.5) == TrialScheduler.CONTINUE
    tune.scheduler.choose_trial_to_run(tune)
    assert tune.stopped == ["trial2"]
    assert tune.report(trials[0], 20, 0.5) == TrialScheduler.STOP
    assert tune.report(trials[1], 20, 0.5) == TrialScheduler.STOP
    assert tune.scheduler.records.spent == 40
    assert tune.scheduler.records.is_spent


def test_trials_start_side_by_side_as_many_as_the_cluster_holds():
    tune = tune_of(PbtSettings(20), trials=4)
    tune.scheduler.admission.fit = 3
    for number in range(4):
        tune.add(trial_of(number))
    chosen = []
    for _ in range(4):
        trial = tune.scheduler.choose_trial_to_run(tune)
        trial.status = Trial.PENDING
        chosen.append(trial.trial_id)
    assert chosen == ["trial0", "trial1", "trial2", "trial0"]


def test_a_population_takes_turns_only_when_the_cluster_is_full():
    tune = tune_of(PbtSettings(20), trials=4)
    tune.scheduler.admission.fit = 2
    for number in range(4):
        tune.add(trial_of(number))
    start(tune, tune.trials[0])
    assert tune.report(tune.trials[0], 20, 0.5) == TrialScheduler.CONTINUE
    start(tune, tune.trials[1])
    assert tune.report(tune.trials[1], 20, 0.5) == TrialScheduler.PAUSE


def test_no_more_trials_train_at_a_time_than_the_limit():
    tune = tune_of(HyperbandSettings(), concurrent=2)
    for number in range(3):
        tune.add(trial_of(number))
    for _ in range(2):
        chosen = tune.scheduler.choose_trial_to_run(tune)
        start(tune, chosen)
    assert tune.scheduler.choose_trial_to_run(tune) is None


def test_a_full_disk_ends_the_sweep_and_no_trial(monkeypatch):
    tune = tune_of(NoScheduler())
    trial = trial_of(0)
    tune.add(trial)
    start(tune, trial)
    monkeypatch.setattr(tune.scheduler, "failure", lambda trial: "OSError: [Errno 28] No space left on device")
    tune.scheduler.on_trial_error(tune, trial)
    with pytest.raises(OSError, match=r"^trial 0: OSError: \[Errno 28\] No space left on device"):
        tune.scheduler.choose_trial_to_run(tune)
    assert tune.scheduler.records.trials[0].status == "running"
    assert tune.scheduler.records.listener.departures == []
