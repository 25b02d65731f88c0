"""Implicit differentiation online as a Ray Tune scheduler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from selftune.listener import Listener
from selftune.methods import Budget, OnlineImplicit, OnlineImplicitSettings
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.settings import settings_of
from selftune.schedulers.transport import TransportName


class ImplicitScheduler(BilevelScheduler):
    """Tunes hyperparameters by implicit differentiation while the trials train; nothing is certified.

    Trials of a team share one hyperparameter vector; each trains its own network, and the mean of their
    hypergradients moves the vector.

        scheduler = ImplicitScheduler(steps=3000, team_size=2, system="descent")
        tune.Tuner(
            trainable(factory),
            tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=2),
            run_config=scheduler.run_config(name="digits"),
        ).fit()

    Args:
        steps, seconds: the budget, one of the two: training steps of every trainer, or seconds of its time.
        team_size: trials that share one hyperparameter vector.
        transport, listener, patience: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.OnlineImplicitSettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range.

    >>> ImplicitScheduler(steps=3000, team_size=2, system="conjugate_gradient").debug_string()
    '0 teams of 2'
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        team_size: int = 1,
        transport: TransportName = "auto",
        listener: Callable[[int], Listener] | None = None,
        patience: float = 0.0,
        **settings: Any,
    ) -> None:
        method = partial(
            OnlineImplicit, Budget(steps, seconds), settings_of(OnlineImplicitSettings, settings), team_size
        )
        super().__init__(method, team_size, transport=transport, listener=listener, patience=patience)
