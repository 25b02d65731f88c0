"""The in-process runner: moves orders and reports between a method and trainers in one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from selftune.listener import Listener
from selftune.methods import Method, Report
from selftune.training.team_run import Executes, NoTrainerLeft, TeamRun


def run_in_process(
    method: Method,
    trainers: Mapping[int, Executes],
    listener: Listener | None = None,
    checkpoints: Path | None = None,
) -> dict[int, Report]:
    """Runs a method to its end and returns each member's last report.

    Args:
        trainers: the team, by member.
        listener: hears every report and hyper-step, once.
        checkpoints: folder for the state at orders marked ``checkpoint``. If it holds a state already, the
            study goes on from there, to the same trajectory as without the interruption. The state before it is
            kept, too, and used where the last one is damaged.

    Raises:
        DamagedFile: if no state there can be read, or it belongs to another study.
        NoTrainerLeft: if no trainer is left to go on, or those that are left have nothing to show.
    """
    listener = listener or Listener()
    run = TeamRun(method, trainers, listener, checkpoints)
    if checkpoints is not None:
        run.restore(checkpoints)
    run.join()
    try:
        while not run.done:
            run.round()
    finally:
        listener.ended()
    if not method.results(run.last):
        raise NoTrainerLeft(": ".join(filter(None, (method.message, run.ended))) or "no trainer got to its end")
    return run.last
