"""The further members of a trial's team: trainers in actors of their own, beside the trial's process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ray

from selftune.hyperparameters import Space
from selftune.logs import WorkerLog
from selftune.methods import Report, WorkOrder
from selftune.schedulers.bundles import actor_in_bundle
from selftune.schedulers.sweep.member_trainer import called, end_workers, first_bundle, member_trainer
from selftune.training.stopwatch import Stopwatch
from selftune.training.team_run import Executes

if TYPE_CHECKING:
    from selftune.schedulers.sweep.trial import Planner


logger = logging.getLogger(__name__)


class Member:
    """An actor with the trainer of one member, or its first worker, of one trial after the other."""

    def __init__(self, planner: Planner, member: int, log: WorkerLog | None) -> None:
        self._planner, self._member, self._log = planner, member, log
        self._trainer: Executes
        self._previous: Executes | None = None

    def begin(self, number: int, values: Mapping[str, Any]) -> Space:
        if self._log is not None:
            self._log.open(called(number, self._member), number, self._member)
        logger.info("begins, in process %d", os.getpid())
        plan = self._planner(values)
        end_workers(self._previous)
        self._trainer = self._previous = member_trainer(
            self._planner, plan, number, values, self._member, self._log
        )
        self._workers, self._watch = plan.workers, Stopwatch(plan.device)
        return self._trainer.space

    def execute(self, order: WorkOrder, warm: Any = None) -> Report:
        return self._trainer.execute(order, warm)

    def seconds(self) -> float:
        return self._watch.taken() * self._workers

    def export_state(self, key: str) -> Any:
        return self._trainer.export_state(key)

    def state_dict(self) -> dict[str, Any]:
        return self._trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._trainer.load_state_dict(state)


class RemoteTrainer:
    """A member's trainer as the trial sees it; see ``Dispatches``.

    Args:
        planner: makes plans of trials.
        member: whose bundles of the trial's placement group it gets.
        workers: how many bundles.
        log: where it logs; None where it does not.

    Raises:
        RayActorError: by every call, if the member has died; Tune then restarts the trial.
    """

    def __init__(self, planner: Planner, member: int, workers: int, log: WorkerLog | None) -> None:
        bundle = first_bundle(member, workers)
        self._actor: Any = actor_in_bundle(Member, bundle, planner, member, log)
        self._begun: Any = None
        self.space: Space

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """Begins to make the trainer of a trial; ``wait`` ends with it."""
        self._begun = self._actor.begin.remote(number, dict(values))

    def wait(self) -> None:
        """Waits until the trainer is made."""
        self.space = ray.get(self._begun)

    def dispatch(self, order: WorkOrder, warm: Any = None) -> Callable[[], Report]:
        reference = self._actor.execute.remote(order, warm)
        return lambda: _got(reference)

    def seconds(self) -> Callable[[], float]:
        """Asks for the seconds of computing since this was asked last; what it returns waits for them."""
        reference = self._actor.seconds.remote()
        return lambda: float(ray.get(reference))

    def execute(self, order: WorkOrder, warm: Any = None) -> Report:
        return self.dispatch(order, warm)()

    def export_state(self, key: str) -> Any:
        return ray.get(self._actor.export_state.remote(key))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = ray.get(self._actor.state_dict.remote())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        ray.get(self._actor.load_state_dict.remote(dict(state)))

    def end(self) -> None:
        """Ends the actor, and with it the workers that it has started."""
        ray.kill(self._actor)


def _got(reference: Any) -> Report:
    report: Report = ray.get(reference)
    return report
