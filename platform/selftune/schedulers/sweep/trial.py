"""A trial of a sweep: a whole team, trained from report to report."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, LocalFileSystem, copy_files
from ray import tune

from selftune.logs import WorkerLog
from selftune.methods.reports import NetworkEvaluated
from selftune.methods.team_method import TeamMethod
from selftune.methods.work_orders import EvaluateNetwork
from selftune.schedulers import ray_internals
from selftune.schedulers.sent_log import log_from_here
from selftune.schedulers.sweep.member import RemoteTrainer
from selftune.schedulers.sweep.member_trainer import called, end_workers, member_trainer
from selftune.schedulers.sweep.records import (
    BEST_STEP,
    BEST_VALUE,
    FAILED,
    NUMBER,
    SECONDS,
    START,
    STEP,
    VALUES,
    WORK,
)
from selftune.schedulers.sweep.work_done import WorkDone
from selftune.search.settings import SearchSettings
from selftune.shapes import Tensor
from selftune.storage.files import DamagedFile
from selftune.storage.state_file import load_state, save_state
from selftune.training.stopwatch import Stopwatch
from selftune.training.team_run import Executes, NoTrainerLeft, TeamRun

logger = logging.getLogger(__name__)

BEST, KIND = "best.safetensors", "best_network"


@dataclass(frozen=True)
class TrialPlan:
    """What one trial runs.

    Args:
        method: makes its method.
        trainers: makes the trainer of a member.
        members: size of the team.
        steps: training steps of each network.
        device: a torch device that they train on.
        workers: processes that train each network together.
    """

    method: Callable[[], TeamMethod]
    trainers: Callable[[int], Executes]
    members: int
    steps: int
    device: str = "cpu"
    workers: int = 1


Planner = Callable[[Mapping[str, Any]], TrialPlan]
"""Makes the plan of a trial of its values, where the trial runs."""


class SweepTrial(tune.Trainable):
    """Trains a team and reports every ``report_every`` training steps; ``sweep_trial`` tells it how.

    Its first member's trainer is in the trial's own process, the others are in actors in the bundles of the
    trial's placement group: whatever Tune does to the trial, it does to all of them. Where trainers have several
    workers, each of these processes is the first of a gang whose others have the bundles after its own.

    A result holds ``training_step`` and the measures of the first member's plain network over the whole validation
    split. The plain network with the best value of the metric so far is kept, and is in every checkpoint.

    A network whose loss is not finite any more ends the trial as a failed one: its last result says why in its
    ``message``, and its metric is infinitely bad. What was best before stays in the checkpoint.

    A trial that goes on from the checkpoint of another one takes its networks, optimizers' memory, response and
    tuned values; learning rates and what else its own values set are its own. It keeps the better of both their
    best networks.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], planner: Planner, settings: SearchSettings, log: WorkerLog | None = None
    ) -> None:
        self._planner, self._settings = planner, settings
        self._log = log_from_here(log, ray_internals.filesystem_of(self))
        self._remote: dict[int, RemoteTrainer] = {}
        self._own: Executes | None = None
        self._begin(config)

    def _begin(self, config: Mapping[str, Any]) -> None:
        number, values = config[NUMBER], config[VALUES]
        self._start = config.get(START)  # what an earlier driver's trial has saved
        if self._log is not None:
            self._log.open(called(number, 0), number, 0)
        logger.info("begins, in process %d, with %s", os.getpid(), dict(values))
        plan = self._plan = self._planner(values)
        for member in range(1, plan.members):
            if member not in self._remote:
                self._remote[member] = RemoteTrainer(self._planner, member, plan.workers, self._log)
            self._remote[member].begin(number, values)
        end_workers(self._own)
        own = self._own = member_trainer(self._planner, plan, number, values, 0, self._log)
        for trainer in self._remote.values():  # made side by side
            trainer.wait()
        self._work = WorkDone()
        self._run = TeamRun(plan.method(), {0: own, **self._remote}, self._work)
        self._watch = Stopwatch(plan.device)
        self._is_joined = False
        self._step = 0  # training steps that have been reported
        self._measures: dict[str, float] = {}
        self._best: dict[str, Any] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the place of another trial, in the same processes; further workers of trainers are new ones."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._start is not None:  # this driver's trial has saved nothing yet, else Tune had loaded that
            with ray_internals.saved_by(self, self._start["folder"]).as_directory() as folder:
                self.load_checkpoint(folder)
        run, every = self._run, self._settings.report_every
        if not self._is_joined:
            run.join()
            self._is_joined = True
        due = min((self._step // every + 1) * every, self._plan.steps)
        try:
            while not run.done and (run.training_step < due or run.training_step >= self._plan.steps):
                run.round()
        except NoTrainerLeft as error:
            return self._failed(str(error))
        self._step = run.training_step
        self._evaluate()
        return self._result(done=run.done)

    def _evaluate(self) -> None:
        """Measures the plain network, and keeps it if it is the best so far."""
        method = self._run.method
        assert isinstance(method, TeamMethod)
        member, state = method.first_network
        if state is not None:
            holders = self._run.states.holders(state)
            member, state = (holders[0], state) if holders else (member, None)
        order = EvaluateNetwork(values=method.values, start=state, network=True)
        report = self._run.trainers[member].execute(order)
        assert isinstance(report, NetworkEvaluated)
        self._measures = dict(report.measures)
        value = self._measures.get(self._settings.metric, math.nan)
        if math.isfinite(value):
            self._keep({"step": self._step, "value": value, "network": dict(report.network)})

    def _keep(self, best: dict[str, Any]) -> None:
        """Keeps a network, if it is better than that which is kept."""
        sign = 1 if self._settings.mode == "min" else -1
        if self._best is None or sign * best["value"] < sign * self._best["value"]:
            self._best = best

    def _result(self, done: bool) -> dict[str, Any]:
        return {STEP: self._step, "done": done, **self._so_far(), **self._measures}

    def _failed(self, message: str) -> dict[str, Any]:
        """The last result where there is no network any more: as bad as can be, for schedulers that compare."""
        logger.warning("%s", message)
        worst = math.inf if self._settings.mode == "min" else -math.inf
        failed = {FAILED: True, "message": message, self._settings.metric: worst}
        return {STEP: self._step, "done": True, **self._so_far(), **failed}

    def _so_far(self) -> dict[str, Any]:
        best = {} if self._best is None else {BEST_VALUE: self._best["value"], BEST_STEP: self._best["step"]}
        return {WORK: self._work.taken(), SECONDS: self._seconds(), **best}

    def _seconds(self) -> float:
        """Seconds of computing of all members since the last result.

        Of a trainer of several workers they are those of its first one times the number of workers, which all do
        the same.
        """
        elsewhere = [trainer.seconds() for trainer in self._remote.values()]
        return self._watch.taken() * self._plan.workers + sum(each() for each in elsewhere)

    # Checkpoints -------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder = Path(checkpoint_dir)
        self._run.save(folder)
        state = {"best": self._best, "step": self._step, "measures": self._measures}
        save_state(folder / BEST, state, KIND)
        logger.info("saved its state at training step %d", self._step)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        folder, self._start = Path(checkpoint_dir), None
        self._run.restore(folder)
        self._work.goes_on_from(self._run.last)
        state = load_state(folder / BEST, KIND)
        self._best, self._step, self._measures = state["best"], state["step"], state["measures"]
        own = self._own_best()  # if the checkpoint is another trial's
        if own is not None:
            self._keep(own)
        logger.info("goes on at training step %d", self._step)

    def _own_best(self) -> dict[str, Any] | None:
        """What this trial's own checkpoints have kept, also those of drivers before this one."""
        folder = ray_internals.folder_of(self)
        filesystem = ray_internals.filesystem_of(self)
        for path in [] if folder is None else _newest_first(filesystem, folder.parent.parent, folder.name):
            try:
                best = _loaded(filesystem, path)
            except DamagedFile:
                continue  # the trial was killed while it was written
            if best is not None:
                return best
        return None

    def cleanup(self) -> None:
        end_workers(self._own)
        for trainer in self._remote.values():
            trainer.end()


def sweep_trial(planner: Planner, settings: SearchSettings, log: WorkerLog | None = None) -> type[tune.Trainable]:
    """A trainable whose trials train what ``planner(values)`` says.

    Args:
        planner: picklable; it travels to the workers.
        settings: of the search: its metric, and how often trials report.
        log: where trials log; None where they do not.
    """
    made: type[tune.Trainable] = tune.with_parameters(SweepTrial, planner=planner, settings=settings, log=log)
    made.__name__ = "Trial"
    return made


def best_network(folder: Path, number: int) -> dict[str, Tensor]:
    """The tensors of the best plain network of a trial, by name.

    Args:
        folder: the sweep's output folder.

    Raises:
        FileNotFoundError: if the trial left no checkpoint with a network.
        DamagedFile: if it is not what was written.
    """
    from selftune.schedulers.run import FOLDER
    from selftune.schedulers.sweep.sweep_record import trial_folder

    place = Path(folder) / FOLDER
    disk = LocalFileSystem()
    for path in _newest_first(disk, place, trial_folder(number)):
        best = _loaded(disk, path)
        if best is not None:
            tensors: dict[str, Tensor] = best["network"]
            return tensors
    raise FileNotFoundError(f"{place}: holds no checkpoint of trial {number} with a network")


def _loaded(filesystem: FileSystem, path: Path) -> dict[str, Any] | None:
    """The best network so far that a file holds."""
    with tempfile.TemporaryDirectory() as folder:
        copy = path
        if not isinstance(filesystem, LocalFileSystem):
            copy = Path(folder, path.name)
            copy_files(str(path), str(copy), source_filesystem=filesystem)
        best: dict[str, Any] | None = load_state(copy, KIND)["best"]
        return best


def _newest_first(filesystem: FileSystem, place: Path, trial: str) -> list[Path]:
    """What the checkpoints of a trial have kept, of all drivers."""
    found = []
    for run in sorted(
        _names(filesystem, place, "run-"), key=lambda name: int(name.removeprefix("run-")), reverse=True
    ):
        checkpoints = sorted(_names(filesystem, place / run / trial, "checkpoint_"), reverse=True)
        found += [place / run / trial / name / BEST for name in checkpoints]
    kept = filesystem.get_file_info([str(path) for path in found])
    return [path for path, about in zip(found, kept, strict=True) if about.is_file]


def _names(filesystem: FileSystem, folder: Path, beginning: str) -> list[str]:
    there = filesystem.get_file_info(FileSelector(str(folder), allow_not_found=True))
    return [one.base_name for one in there if one.base_name.startswith(beginning)]
