"""The inexact line search (MAID) as Ray Tune schedulers: for smooth problems, and for networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selftune.listener import Listener
from selftune.schedulers.method import MethodScheduler, NetworkScheduler
from selftune.schedulers.transport import TransportName


class InexactLineSearchScheduler(MethodScheduler):
    """Tunes hyperparameters of smooth, strongly convex problems by certified steps (MAID, arXiv 2308.10098).

    A team tries several step sizes of one search at the same time, from one warm start that travels between its
    trials, and accepts the step that a single trial would accept: hyperparameters are the same to the last bit,
    whatever the size of the team.

        scheduler = InexactLineSearchScheduler(steps=50, team_size=4)
        tune.Tuner(
            trainable(SmoothTrainerFactory(LogisticRegression(groups="per_feature"))),
            tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=4),
            run_config=scheduler.run_config(name="logistic"),
        ).fit()

    Nothing interrupts a candidate's solve: one that can no longer win goes on to its end, which early rejection
    brings soon if it is a bad one. Its report is ignored, nobody waits for it, and its trial gets the next order
    then. A trial that restarts does its last order again; where a warm start died with a trial or with the driver,
    the solve starts cold: the step is certified all the same, but its last digits may be others.

    Args:
        work: budget in lower-level gradients and products of the team; speculation counts. None for no limit.
        steps: budget in accepted steps; None for no limit.
        team_size: trials that search together.
        transport, listener, patience, hang_after: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.InexactLineSearchSettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range.

    >>> InexactLineSearchScheduler(steps=50, team_size=4, backtracks=8).debug_string()
    '0 teams of 4'
    """

    def __init__(
        self,
        *,
        work: int | None = None,
        steps: int | None = None,
        team_size: int = 1,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        hang_after: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            "inexact_line_search",
            on="smooth",
            steps=steps,
            work=work,
            team_size=team_size,
            transport=transport,
            listener=listener,
            patience=patience,
            hang_after=hang_after,
            **settings,
        )


class NetworkLineSearchScheduler(NetworkScheduler):
    """Tunes smooth hyperparameters of networks by steps that pass a test (after MAID, arXiv 2308.10098).

    Trials of a team train the candidates of one search at the same time, from one state that travels between
    them, and accept the step that a single trial would accept, whatever the size of the team.

        scheduler = NetworkLineSearchScheduler(steps=3000, team_size=3)
        tune.Tuner(
            trainable(TrainerFactory(objective, regularizers)),
            tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=3),
            run_config=scheduler.run_config(name="digits"),
        ).fit()

    A trial that restarts has the states of its last checkpoint; what is gone is fetched from another trial or
    made again, and the trajectory stays the same. With ``checkpoint_every`` above 1 the path may have to go back.

    Args:
        steps, seconds: the budget, one of the two: training steps of the path that is kept, or its seconds.
        team_size: trials that search together; more than ``backtracks`` have nothing to do.
        transport, listener, patience, hang_after: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.NetworkLineSearchSettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range.

    >>> NetworkLineSearchScheduler(steps=3000, team_size=3, backtracks=3).debug_string()
    '0 teams of 3'
    """

    METHOD = "inexact_line_search"
