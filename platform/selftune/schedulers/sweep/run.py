"""A sweep on a Ray cluster: trials, each of them a team, from start or record to the last one's end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from pyarrow.fs import FileSystem
from ray import tune

from selftune.errors import Stopped
from selftune.schedulers import ray_internals, slots
from selftune.schedulers.bundles import trial_bundles
from selftune.schedulers.cluster import connected, quiet
from selftune.schedulers.ending import Ending
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.hangs import Hangs
from selftune.schedulers.metrics import SweepMetrics
from selftune.schedulers.run import FOLDER
from selftune.schedulers.served_folder import served
from selftune.schedulers.silent_progress import SilentProgress
from selftune.schedulers.sweep.history import History
from selftune.schedulers.sweep.records import NUMBER, TrialRecords
from selftune.schedulers.sweep.samples import GridSamples, Samples, samples_of
from selftune.schedulers.sweep.searcher import SweepSearcher
from selftune.schedulers.sweep.sweep_record import SweepRecord, SweepState, read_sweep, trial_folder
from selftune.schedulers.sweep.trial_scheduler import SweepScheduler
from selftune.schedulers.sweep.tune_schedulers import sweep_scheduler
from selftune.search.settings import SearchSettings
from selftune.search.space import SearchSpace
from selftune.search.trial_record import TrialsListener, TrialsListeners
from selftune.search.trial_schedulers import PopulationSettings
from selftune.training.runner import never

_RETRIES = 2
_KEPT = 3


def run_trials_on_ray(
    trainable: type[tune.Trainable],
    *,
    check: Callable[[Mapping[str, Any]], str | None],
    space: SearchSpace,
    settings: SearchSettings,
    members: int,
    cpus: float,
    gpus: float,
    trial_steps: int,
    folder: Path,
    listener: TrialsListener,
    resume: bool = False,
    address: str | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    stop: Callable[[], bool] = never,
    study: str = "",
    hang_after: float | None = None,
    workers: int = 1,
) -> None:
    """Runs the trials of a search on Ray Tune until there are no more, or the budget is spent.

    A driver that goes on makes a new run of Tune's from the record of the one before it and its trials'
    checkpoints (``SweepRecord``): nothing that Tune saved is read, so that it may be another version of Ray.

    Args:
        trainable: a trial; its config holds the trial's ``number``, its ``values``, and maybe ``start``: the
            ``folder`` of a checkpoint that it goes on from, unless Tune gives it another one. It reports
            ``training_step`` and the metric.
        check: why values do not make a study, in one sentence; None if they do. Such a sample becomes no trial:
            the searcher hears that it failed, and is asked again.
        space: what is searched.
        settings: of the search.
        members: networks of a trial, which are placed together or not at all.
        cpus, gpus: resources of each of them, of each of its workers if it has several.
        trial_steps: training steps of a trial.
        folder: the sweep's output folder, on this machine; Tune's files go to its subfolder ``ray``.
        listener: hears what becomes of the trials.
        resume: go on from the record in ``folder``; starts anew if there is none yet.
        address: of a running cluster; default ``RAY_ADDRESS``, else a cluster on this machine for this run.
        say: hears sentences that a person should read.
        stop: looked at again and again: whether to end once the trials that train have reported.
        study: its name, in metrics.
        hang_after: seconds after which a trial that does not come to its next report counts as hanging; it is
            ended and started again. None for ten times the longest so far, and ten minutes at least.
        workers: processes that train each network together; a trial has a bundle for each.

    Raises:
        SchedulerError: if the folder holds a run already, a trial does not fit on the cluster, or the searcher
            finds nothing that makes a study.
        DamagedFile: if what is resumed is damaged.
        OSError: if a disk is full; the folder can be resumed.
        Stopped: because ``stop`` says so; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
    """
    place = Path(folder).resolve() / FOLDER
    left = read_sweep(place)
    if left is not None and not resume:
        raise SchedulerError(f"{place.parent} holds a run already: resume it, or choose another folder")
    records = TrialRecords(settings, members, trial_steps)
    records.check, records.listener = check, TrialsListeners([listener, SweepMetrics(study)])
    if left is not None:
        records.load_state_dict(left.records)
        records.settle(left.scheduler["going"])
        if records.is_over:  # the driver before this one was killed when all was done but the end
            records.begin()
            records.listener.ended()
            return
    with quiet(), _quiet_optuna(), connected(address):
        fit = _fitting(settings, members, workers, {"CPU": cpus, "GPU": gpus}, say)
        bundles = trial_bundles(members, workers, cpus, gpus)
        worker = tune.with_resources(trainable, tune.PlacementGroupFactory(bundles))
        scheduler = sweep_scheduler(space, records, trial_steps)
        scheduler.admission.fit = fit
        samples = samples_of(space, settings)
        if left is None:
            _say_of_grid(samples, settings, say)
        searcher = SweepSearcher(samples, records, scheduler.admission)
        every, kept = _checkpoints(settings, trial_steps)
        record = SweepRecord(place, scheduler, records, kept, left)
        place.mkdir(parents=True, exist_ok=True)
        record.clear()
        history = History(record.history, () if left is None else left.events)
        scheduler.history = searcher.history = history
        if left is not None:
            _go_on(left, scheduler, searcher)
        with (
            ray_internals.own_interrupts() as end,
            ray_internals.uncounted_callbacks(),
            _seeded(settings.seed),
            served(place.parent) as filesystem,
        ):
            tuner = _tuner(worker, scheduler, searcher, record, place, filesystem, (every, kept))
            scheduler.ending, scheduler.hangs = Ending(stop, end), Hangs(hang_after)
            try:
                tuner.fit()
            finally:
                record.write()
                history.close()
                records.listener.ended()
        if not records.is_over:
            if scheduler.ending.has_ended:
                ended = sum(one.has_ended for one in records.trials.values())
                raise Stopped(f"after {ended} trial{'s' * (ended != 1)}")
            raise KeyboardInterrupt("interrupted; the sweep can be resumed")


def _go_on(left: SweepState, scheduler: SweepScheduler, searcher: SweepSearcher) -> None:
    scheduler.go_on(left)
    searcher.go_on(left.events, scheduler.configs())


def _say_of_grid(samples: Samples, settings: SearchSettings, say: Callable[[str], None]) -> None:
    if isinstance(samples, GridSamples) and settings.trials is not None:
        size = len(samples.combinations)
        if settings.trials < size:
            say(f"the grid has {size} combinations, of which {settings.trials} are tried, drawn at random")


def _tuner(
    worker: Any,
    scheduler: SweepScheduler,
    searcher: SweepSearcher,
    record: SweepRecord,
    place: Path,
    filesystem: FileSystem | None,
    checkpoints: tuple[int, int],
) -> tune.Tuner:
    every, kept = checkpoints
    return tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            search_alg=searcher,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=record.run_name,
            storage_path=str(place),
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[record, SilentProgress()],
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=kept, checkpoint_frequency=every, checkpoint_at_end=True
            ),
        ),
    )


def _checkpoints(settings: SearchSettings, steps: int) -> tuple[int, int]:
    """Reports between two checkpoints of a trial, and how many are kept.

    One after every report, so that a killed sweep loses little. A population keeps those of a whole interval: a
    trial may be copied from the one at its beginning until the next.
    """
    if not isinstance(settings.scheduler, PopulationSettings):
        return 1, _KEPT
    interval = settings.scheduler.interval_steps or max(1, steps // 10)
    return 1, _KEPT + 1 + interval // settings.report_every


def _trial_folder(trial: Any) -> str:
    return trial_folder(trial.config[NUMBER])


def _fitting(
    settings: SearchSettings,
    members: int,
    workers: int,
    request: Mapping[str, float],
    say: Callable[[str], None],
) -> int:
    """How many trials the cluster holds at a time."""
    fit = slots.slots(request, workers=members * workers)
    if not fit:
        raise SchedulerError(slots.shortage(request, members, workers=workers))
    if settings.concurrent is not None and settings.concurrent > fit:
        trials = "1 trial fits" if fit == 1 else f"{fit} trials fit"
        say(f"concurrent is {settings.concurrent}, but {trials} on the cluster at a time; that many run")
    return fit


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Tune's schedulers draw from the generators of the process: they get a seed, and back what they were."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
