"""A method and its trainers on a Ray cluster, from start or snapshot to the final reports."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.logger import JsonLoggerCallback

from selftune.errors import SettingError, Stopped
from selftune.listener import Listener, Listeners
from selftune.logs import WorkerLog
from selftune.methods import Method, Report
from selftune.schedulers import ray_internals, slots
from selftune.schedulers.cluster import connected, quiet
from selftune.schedulers.ending import Ending
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.metrics import StudyMetrics
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.silent_progress import SilentProgress
from selftune.schedulers.trainable import trainable
from selftune.schedulers.transport import TransportName
from selftune.training.runner import never
from selftune.training.team_run import Executes

FOLDER = "ray"


def run_on_ray(
    method_factory: Callable[[], Method],
    trainer_factory: Callable[[int], Executes],
    *,
    members: int,
    cpus: float,
    gpus: float,
    folder: Path,
    listener: Listener,
    resume: bool = False,
    address: str | None = None,
    transport: TransportName = "auto",
    patience: float = 0.0,
    stop: Callable[[], bool] = never,
    log: WorkerLog | None = None,
    study: str = "",
) -> dict[int, Report]:
    """Runs one team on Ray Tune until its method is done.

    Args:
        method_factory, trainer_factory: build the method and, on a worker, a member's trainer; picklable.
        members: size of the team.
        cpus, gpus: resources of one trainer.
        folder: the study's output folder; Tune's files go to its subfolder ``ray``. With a cluster of several
            nodes it must be storage that all of them reach.
        listener: hears everything on this side. After a resume it hears again, with the same numbers, what
            happened since the last snapshot before the driver died (at most about a second).
        resume: go on from the snapshot in ``folder``; starts anew if there is none yet.
        address: of a running cluster; default ``RAY_ADDRESS``, else a cluster on this machine for this run.
        transport: how orders reach trials.
        patience: seconds to wait for an autoscaling cluster to become large enough.
        stop: looked at again and again: whether to end once every trainer has done its order and saved its state.
        log: where workers log; None where they do not.
        study: its name, in metrics.

    Returns:
        The final report of each member that got to its end, as far as it holds a result of the method.

    Raises:
        SchedulerError: if the folder holds a run already, the cluster is too small, or no trainer with a result
            got to its end; says why.
        SettingError: if a trainer refuses a setting, or others may write what is resumed.
        Stopped: because ``stop`` says so; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
    """
    place = Path(folder).resolve() / FOLDER
    resume = goes_on(place, resume)
    with quiet(), connected(address):
        request = {"CPU": cpus, "GPU": gpus}
        if not patience and slots.slots(request) < members:
            raise SchedulerError(slots.shortage(request, members))
        worker = tune.with_resources(trainable(trainer_factory), {"cpu": cpus, "gpu": gpus})
        if resume:
            tuner = restored(place, worker)
        else:
            logger = JsonLoggerCallback()  # type: ignore[no-untyped-call]
            scheduler = BilevelScheduler(method_factory, members, transport=transport, patience=patience)
            tuner = tune.Tuner(
                worker,
                tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=members),
                run_config=scheduler.run_config(
                    name=FOLDER, storage_path=str(place.parent), verbose=0, callbacks=[logger, SilentProgress()]
                ),
            )
        scheduler = ray_internals.scheduler_of(tuner)
        scheduler.make_method = method_factory  # after a resume, with the budget that is given now
        scheduler.listener = _Same(Listeners([listener, StudyMetrics(study)]))
        scheduler.log = log
        with (
            ray_internals.own_interrupts() as end,
            ray_internals.uncounted_callbacks(),
            ray_internals.whole_snapshots(),
        ):
            scheduler.ending = Ending(stop, end)
            tuner.fit()
        return _outcome(scheduler)


def check_private(place: Path) -> None:
    """Refuses a folder of Tune's that another user may have written: going on from it runs what its pickles say.

    Args:
        place: Tune's folder in the study's output folder.

    Raises:
        SettingError: with the folder or file and what to do.
    """
    for path in (place.parent, place, *place.glob("*.pkl"), *place.glob("*.json")):
        status = path.stat()
        shared = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid != os.getgid())
        if shared or status.st_uid not in (os.getuid(), 0):
            raise SettingError(
                "",
                f"{path}: others may write here, and resuming on Ray runs code that it holds; if it is all"
                f" yours, `chmod -R go-w {place.parent}`",
            )


def has_snapshot(place: Path) -> bool:
    """Whether Tune's folder holds a state to go on from."""
    snapshots = sorted(place.glob("experiment_state-*.json"))
    if not snapshots or not tune.Tuner.can_restore(str(place)):
        return False
    try:
        json.loads(snapshots[-1].read_text())
    except json.JSONDecodeError:
        return False  # killed while it was written: starting anew gives the same trajectory
    return True


def goes_on(place: Path, resume: bool) -> bool:
    """Whether a run goes on from the snapshot in Tune's folder; what a run without one left there is removed.

    Args:
        resume: whether it may.

    Raises:
        SchedulerError: if there is a snapshot, and the run may not go on from it.
        SettingError: if others may have written it.
    """
    if not has_snapshot(place):
        if place.exists():
            shutil.rmtree(place)  # of a run that was killed before its first snapshot
        return False
    if not resume:
        raise SchedulerError(f"{place.parent} holds a run already: resume it, or choose another folder")
    check_private(place)
    return True


def restored(place: Path, worker: Any) -> tune.Tuner:
    """Tune's run of a folder, to go on with.

    Args:
        worker: the trainable, as it was given to the run.

    Raises:
        SchedulerError: if the snapshot is damaged, or another version of selftune or Ray wrote it.
    """
    try:
        return tune.Tuner.restore(str(place), worker, resume_unfinished=True)
    except (AttributeError, ImportError, EOFError, pickle.UnpicklingError) as error:
        raise SchedulerError(
            f"{place} is damaged, or was written by another version of selftune or Ray ({error}); go on with that"
            " version, or start anew in another folder"
        ) from error


def _outcome(scheduler: BilevelScheduler) -> dict[int, Report]:
    team = scheduler.teams[0]
    if not team.over and not team.method.done:
        if scheduler.ending is not None and scheduler.ending.has_ended:
            steps = 0 if team.hyper_step is None else team.hyper_step + 1
            raise Stopped(f"after {steps} hyper-step{'s' * (steps != 1)}")
        raise KeyboardInterrupt("interrupted; the study can be resumed")
    members = team.members.items()
    reports = {member: entry.final for member, entry in members if entry.final is not None}
    results = team.method.results(reports)
    if not results:
        reasons = "; ".join(
            f"trainer {member}: {entry.lost}" for member, entry in members if entry.lost is not None
        )
        raise SchedulerError(f"{team.method.message or 'no trainer got to its end'}: {reasons}".removesuffix(": "))
    return results


class _Same:
    """Gives the one team its listener; not pickled with the scheduler, whose tuner was saved before."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, team: int) -> Listener:
        return self._listener
