"""The trainer of a member in the member's own process: alone, or the first of a gang of workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from selftune.logs import WorkerLog
from selftune.schedulers.gang import Gang
from selftune.training.team_run import Executes

if TYPE_CHECKING:
    from selftune.schedulers.sweep.trial import Planner, TrialPlan


def member_trainer(
    planner: Planner, plan: TrialPlan, number: int, values: Mapping[str, Any], member: int, log: WorkerLog | None
) -> Executes:
    """Makes a member's trainer. Of several workers, the others are in the bundles after this process's own.

    Args:
        planner: makes the plan again where the other workers are.
        plan: of the trial.
        number, values: of the trial.
        member: of the team.
        log: where the other workers log; None where they do not.
    """
    if plan.workers == 1:
        return plan.trainers(member)
    make = partial(_made, planner, dict(values), member)
    name = called(number, member)
    return Gang(make, plan.workers, log, name, member, first=first_bundle(member, plan.workers), team=number)


def first_bundle(member: int, workers: int) -> int:
    """The index of the bundle with a member's own process; its other workers have those that follow.

    >>> [first_bundle(member, workers=2) for member in range(3)]
    [0, 2, 4]
    """
    return member * workers


def called(number: int, member: int) -> str:
    """What a member's process is called in the names of logs.

    >>> called(3, 0), called(3, 1)
    ('trial-3', 'trial-3-trainer-1')
    """
    return f"trial-{number}-trainer-{member}" if member else f"trial-{number}"


def end_workers(trainer: Executes | None) -> None:
    """Ends the other workers of a trainer, if it has some."""
    if isinstance(trainer, Gang):
        trainer.end()


def _made(planner: Planner, values: Mapping[str, Any], member: int) -> Executes:
    return planner(values).trainers(member)
