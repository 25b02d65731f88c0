"""Schedulers of trials driven by hand, with trials that are not trained."""

from pathlib import Path

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from sweep_fakes import SPACE, Heard

from selftune.schedulers.sweep.history import History
from selftune.schedulers.sweep.records import TrialRecords
from selftune.schedulers.sweep.saved_trial import SavedTrial
from selftune.schedulers.sweep.sweep_record import SweepState
from selftune.schedulers.sweep.tune_schedulers import sweep_scheduler
from selftune.search import SearchSettings


class Tune:
    """As much of Tune's controller as schedulers ask for."""

    def __init__(self, scheduler):
        self.scheduler = scheduler
        self.trials = []
        self.stopped = []
        self.checkpoint = None

    def get_trials(self):
        return self.trials

    get_live_trials = get_trials

    def stop_trial(self, trial):
        self.stopped.append(trial.trial_id)
        trial.status = Trial.TERMINATED
        self.scheduler.on_trial_remove(self, trial)

    def pause_trial(self, trial, should_checkpoint=True):
        trial.status = Trial.PAUSED

    def _schedule_trial_save(self, trial, result=None):
        return self.checkpoint

    def add(self, trial):
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)

    def report(self, trial, step, loss):
        result = {"training_step": step, "validation_loss": loss, "training_iteration": step // 10}
        decision = self.scheduler.on_trial_result(self, trial, result)
        self.scheduler.on_any_result(trial, result)
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
        elif decision == TrialScheduler.STOP:
            trial.status = Trial.TERMINATED
            self.scheduler.on_trial_complete(self, trial, result)
        return decision


def trial_of(number, trial_id=None):
    config = {"number": number, "values": {"x": 0.1 * number}}
    return Trial("Curve", config=config, stub=True, trial_id=trial_id or f"trial{number}")


def tune_of(scheduler, **settings):
    settings = SearchSettings(
        metric="validation_loss",
        mode="min",
        report_every=10,
        scheduler=scheduler,
        **{"trials": 9, **settings},
    )
    records = TrialRecords(settings, members=1, trial_steps=100)
    records.listener = Heard()
    return Tune(sweep_scheduler(SPACE, records, 100))


def start(tune, trial):
    trial.status = Trial.RUNNING
    tune.scheduler.on_trial_start(trial)
    tune.scheduler.records.started(trial.trial_id, trial.config["values"], 0)


def half_way(scheduler):
    """A search in the midst of its decisions, and the number of its trials."""
    tune = tune_of(scheduler)
    trials = [trial_of(number) for number in range(8)]
    for trial in trials:
        tune.add(trial)
    for trial in trials[:6]:
        start(tune, trial)
    for step in (10, 20, 30, 40):
        for number, trial in enumerate(trials[:6]):
            if trial.status == Trial.RUNNING:
                tune.report(trial, step, 1 - 0.1 * number + 0.001 * step)
    return tune


def restored(tune, scheduler, saves=True):
    """The search in another driver: Tune has every trial that had not ended, and the record of the first one.

    With ``saves``, every trial has saved its state after its last report; else, none ever has.
    """
    again = tune_of(scheduler)
    records, state = tune.scheduler.records.state_dict(), tune.scheduler.state_dict()
    again.scheduler.records.load_state_dict(records)
    again.scheduler.history = History(before=tune.scheduler.history.events)
    starts = {
        number: SavedTrial(trial.training_step, Path("saved")) for number, trial in records["trials"].items()
    }
    saved = {} if tune.checkpoint is None else {n: [SavedTrial(100, Path(tune.checkpoint.path))] for n in range(9)}
    again.scheduler.go_on(
        SweepState(0, records, state, starts if saves else {}, saved, tune.scheduler.history.events)
    )
    for config in again.scheduler.configs():
        again.add(trial_of(config["number"]))
    again.scheduler.choose_trial_to_run(again)
    return again


def memory(scheduler):
    """What a scheduler remembers, with trials by their ids."""

    def plain(value, depth=0):
        if isinstance(value, Trial):
            return value.trial_id
        if isinstance(value, dict):
            return {plain(key): plain(entry, depth) for key, entry in value.items()}
        if isinstance(value, list | tuple | set):
            found = [plain(entry, depth) for entry in value]
            return sorted(found, key=str) if isinstance(value, set) else found
        if hasattr(value, "__dict__") and depth < 3 and type(value).__module__.startswith("ray.tune.schedulers"):
            return plain(vars(value), depth + 1)
        return str(value) if isinstance(value, int | float | str | None) or hasattr(value, "to_csv") else "..."

    return plain(vars(scheduler.inner))
