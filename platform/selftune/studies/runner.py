"""One method on the trainers of a study: in this process, or on Ray."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from selftune.listener import Listener, Listeners
from selftune.lower_level.smooth_objective import LowerLevelError
from selftune.methods import Budget, Method, Report
from selftune.methods.best_step import BestStep
from selftune.studies.driver import Driver
from selftune.studies.folder import CHECKPOINTS
from selftune.studies.run_log import RunLog
from selftune.studies.status_writer import StatusWriter
from selftune.studies.study import Study
from selftune.studies.study_failed import StudyFailed
from selftune.training import NoTrainerLeft, run_in_process
from selftune.training.runner import never
from selftune.training.team_run import Executes

logger = logging.getLogger(__name__)


class Runner:
    """Where the orders of a study are executed.

    Args:
        study: gives team and resources.
        local: in this process instead of on Ray.
        driver: this process, which may be asked to stop; None if nobody can.
    """

    def __init__(self, study: Study, local: bool, driver: Driver | None = None) -> None:
        self.study = study
        self.local = local
        self.driver = driver

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Connects to the cluster once for several runs; does nothing in-process."""
        if self.local:
            yield
            return
        from selftune.schedulers.cluster import connected, quiet

        try:
            with quiet(), connected():
                yield
        except ConnectionError as error:
            raise StudyFailed(f"no Ray cluster: {error}; unset RAY_ADDRESS, or use --local") from error

    def run(
        self,
        method: Callable[[], Method],
        trainers: Callable[[int], Executes],
        folder: Path,
        listener: Listener,
        members: int | None = None,
        *,
        phase: str,
        budget: Budget,
    ) -> dict[int, Report]:
        """Runs a method from its start, or from where the last call with this folder was stopped.

        Args:
            members: size of the team; None takes the study's.
            phase: what this is, for who looks at it from outside.
            budget: how long it goes on.

        Returns:
            The final report of every member that got to its end with a result.

        Raises:
            StudyFailed: if none did.
            Stopped: if the driver was asked to stop, and has.
        """
        number = members or self.study.trainers.number
        if self.driver is None:
            return self._run(method, trainers, folder, listener, number, never)
        listener = Listeners([RunLog(), listener, self._status(self.driver, phase, budget)])
        with self.driver.finishing():
            return self._run(method, trainers, folder, listener, number, self.driver.asked)

    def _status(self, driver: Driver, phase: str, budget: Budget) -> StatusWriter:
        study = self.study
        progress = study.strategy.lines(logger.info, phase, budget)
        return StatusWriter(driver.folder, study.study, phase, progress, BestStep(study.metric, study.mode))

    def _run(
        self,
        method: Callable[[], Method],
        trainers: Callable[[int], Executes],
        folder: Path,
        listener: Listener,
        number: int,
        stop: Callable[[], bool],
    ) -> dict[int, Report]:
        if self.local:
            team: dict[int, Executes] = {member: trainers(member) for member in range(number)}
            try:
                machine = method()
                return machine.results(run_in_process(machine, team, listener, folder / CHECKPOINTS, stop))
            except (NoTrainerLeft, LowerLevelError) as error:
                raise StudyFailed(str(error)) from error
            except torch.OutOfMemoryError as error:
                raise StudyFailed("the GPU's memory is full; lower objective.batch_size") from error
        from selftune.schedulers import SchedulerError, run_on_ray

        folder.mkdir(exist_ok=True)
        try:
            return run_on_ray(
                method,
                trainers,
                members=number,
                cpus=self.study.trainers.cpus,
                gpus=self.study.trainers.gpus_each,
                workers=self.study.trainers.workers,
                folder=folder,
                listener=listener,
                resume=True,
                space=self.study.space,
                stop=stop,
                study=self.study.study,
                hang_after=self.study.trainers.hang_after,
                at_least=self.study.trainers.at_least and min(self.study.trainers.at_least, number),
                log=None if self.driver is None else self.driver.worker_log(self.study.study),
            )
        except SchedulerError as error:
            raise StudyFailed(str(error)) from error
