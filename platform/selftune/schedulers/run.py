"""A method and its trainers on a Ray cluster, from start or snapshot to the final reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ray import tune

from selftune.errors import Stopped
from selftune.hyperparameters import Space
from selftune.listener import Listener, Listeners
from selftune.logs import WorkerLog
from selftune.methods import Method, Report
from selftune.schedulers import ray_internals, slots
from selftune.schedulers.cluster import connected, quiet
from selftune.schedulers.ending import Ending
from selftune.schedulers.environment import environment
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.metrics import StudyMetrics
from selftune.schedulers.run_record import RunRecord, read_record
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.served_folder import served
from selftune.schedulers.silent_progress import SilentProgress
from selftune.schedulers.trainable import trainable
from selftune.schedulers.transport import TransportName
from selftune.training.runner import never
from selftune.training.team_run import Executes

FOLDER = "ray"
_NO_SNAPSHOTS = {"TUNE_GLOBAL_CHECKPOINT_S": "1000000000"}  # between two of Tune's, which nobody would read


def run_on_ray(
    method_factory: Callable[[], Method],
    trainer_factory: Callable[[int], Executes],
    *,
    members: int,
    workers: int = 1,
    cpus: float,
    gpus: float,
    folder: Path,
    listener: Listener,
    resume: bool = False,
    address: str | None = None,
    space: Space,
    transport: TransportName = "auto",
    patience: float = 0.0,
    at_least: int | None = None,
    hang_after: float | None = None,
    stop: Callable[[], bool] = never,
    log: WorkerLog | None = None,
    study: str = "",
) -> dict[int, Report]:
    """Runs one team on Ray Tune until its method is done.

    A driver that goes on makes a new run of Tune's from the record and the checkpoints of the one before it
    (``RunRecord``): nothing that Tune saved is read, so that it may be another version of Ray.

    Args:
        method_factory, trainer_factory: build the method and, on a worker, a member's trainer; picklable.
        members: size of the team.
        workers: processes of each trainer.
        cpus, gpus: resources of each of them.
        folder: the study's output folder, on this machine; the driver's record goes to its subfolder ``ray``,
            Tune's files below that.
        listener: hears everything on this side. After a resume it hears again, with the same numbers, what
            happened since the last record before the driver died.
        resume: go on from the record in ``folder``; starts anew if there is none yet.
        address: of a running cluster; default ``RAY_ADDRESS``, else a cluster on this machine for this run.
        space: the study's hyperparameters, as its trainers have them.
        transport: how orders reach trials.
        patience: seconds to wait for an autoscaling cluster to become large enough.
        at_least, hang_after: as of ``BilevelScheduler``.
        stop: looked at again and again: whether to end once every trainer has done its order and saved its state.
        log: where workers log; None where they do not.
        study: its name, in metrics.

    Returns:
        The final report of each member that got to its end, as far as it holds a result of the method.

    Raises:
        SchedulerError: if the folder holds a run already, the cluster is too small, or no trainer with a result
            got to its end; says why.
        DamagedFile: if what is resumed is damaged.
        SettingError: if a trainer refuses a setting.
        OSError: if a disk is full; the folder can be resumed.
        Stopped: because ``stop`` says so; the folder can be resumed.
        KeyboardInterrupt: after SIGINT; the folder can be resumed.
    """
    place = Path(folder).resolve() / FOLDER
    left = read_record(place, space)
    if left is not None and not resume:
        raise SchedulerError(f"{place.parent} holds a run already: resume it, or choose another folder")
    scheduler = BilevelScheduler(
        method_factory,
        members,
        transport=transport,
        patience=patience,
        at_least=at_least,
        hang_after=hang_after,
    )
    scheduler.left = left
    open_members = list(range(members)) if left is None else left.open_members
    if not open_members:  # the driver before this one was killed when all was done but the end
        scheduler.set_search_properties(None, None)
    else:
        record = RunRecord(place, scheduler, space, left)
        with quiet(), environment(_NO_SNAPSHOTS), connected(address):
            request = {"CPU": cpus, "GPU": gpus}
            needed = len(open_members)
            if at_least is not None:
                needed = max(min(at_least, needed), 0 if left is None else len(left.at_work))
            if not patience and slots.slots(request, workers=workers) < needed:
                raise SchedulerError(slots.shortage(request, needed, workers=workers))
            place.mkdir(parents=True, exist_ok=True)
            # of a driver that was killed before its first record
            shutil.rmtree(place / record.run_name, ignore_errors=True)
            with served(place.parent) as filesystem:
                tuner = tune.Tuner(
                    tune.with_resources(
                        trainable(trainer_factory, workers), tune.PlacementGroupFactory([request] * workers)
                    ),
                    param_space={"member": tune.grid_search(open_members)},
                    tune_config=tune.TuneConfig(scheduler=scheduler),
                    run_config=scheduler.run_config(
                        name=record.run_name,
                        storage_path=str(place),
                        storage_filesystem=filesystem,
                        verbose=0,
                        callbacks=[record, SilentProgress()],
                    ),
                )
                scheduler.listener = _Same(Listeners([listener, StudyMetrics(study)]))
                scheduler.log = log
                with ray_internals.own_interrupts() as end, ray_internals.uncounted_callbacks():
                    scheduler.ending = Ending(stop, end)
                    tuner.fit()
    return _outcome(scheduler)


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
