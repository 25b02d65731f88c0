"""Implicit differentiation online as a Ray Tune scheduler."""

from __future__ import annotations

from selftune.schedulers.method import NetworkScheduler


class ImplicitScheduler(NetworkScheduler):
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
        transport, listener, patience, at_least, hang_after: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.OnlineImplicitSettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range.

    >>> ImplicitScheduler(steps=3000, team_size=2, system="conjugate_gradient").debug_string()
    '0 teams of 2'
    """

    METHOD = "implicit"
