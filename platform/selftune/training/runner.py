"""The in-process runner: moves orders and reports between a method and trainers in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from selftune.errors import Stopped
from selftune.listener import Listener
from selftune.methods import Method, Report
from selftune.training.team_run import Executes, NoTrainerLeft, TeamRun


def never() -> bool:
    """Nobody asks to stop."""
    return False


def run_in_process(
    method: Method,
    trainers: Mapping[int, Executes],
    listener: Listener | None = None,
    checkpoints: Path | None = None,
    stop: Callable[[], bool] = never,
) -> dict[int, Report]:
    """Runs a method to its end and returns each member's last report.

    Args:
        trainers: the team, by member.
        listener: hears every report and hyper-step, once.
        checkpoints: folder for the state at orders marked ``checkpoint``. If it holds a state already, the
            study goes on from there, to the same trajectory as without the interruption. The state before it is
            kept, too, and used where the last one is damaged.
        stop: looked at between two rounds of orders: whether to end there. The state is saved first.

    Raises:
        DamagedFile: if no state there can be read, or it belongs to another study.
        Stopped: because ``stop`` says so.
        NoTrainerLeft: if no trainer is left to go on, or those that are left have nothing to show.
    """
    listener = listener or Listener()
    run = TeamRun(method, trainers, listener, checkpoints)
    if checkpoints is not None:
        run.restore(checkpoints)
    run.join()
    try:
        while not run.done:
            if stop():
                if checkpoints is not None:
                    run.save(checkpoints)
                raise Stopped(f"after {_done(run)}")
            run.round()
    finally:
        listener.ended()
    if not method.results(run.last):
        raise NoTrainerLeft(": ".join(filter(None, (method.message, run.ended))) or "no trainer got to its end")
    return run.last


def _done(run: TeamRun) -> str:
    if run.hyper_steps:
        return f"{run.hyper_steps} hyper-step{'s' * (run.hyper_steps > 1)}"
    return f"{run.training_step} training steps"
