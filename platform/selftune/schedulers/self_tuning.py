"""Self-Tuning Networks as a Ray Tune scheduler."""

from __future__ import annotations

from selftune.schedulers.method import NetworkScheduler


class SelfTuningScheduler(NetworkScheduler):
    """Tunes hyperparameters while the trials train (STN, arXiv 1903.03088; Delta-STN, arXiv 2010.13514).

    Trials of a team share one hyperparameter vector; each trains its own network. The vector and its
    domains come from the trainers themselves.

        scheduler = SelfTuningScheduler(steps=3000, team_size=2)
        tune.Tuner(
            trainable(factory),
            tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=2),
            run_config=scheduler.run_config(name="digits"),
        ).fit()

    Args:
        steps, seconds: the budget, one of the two: training steps of every trainer, or seconds of its time.
        team_size: trials that share one hyperparameter vector.
        transport, listener, patience, at_least, hang_after: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.SelfTuningSettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range.

    >>> SelfTuningScheduler(steps=3000, team_size=2, learning_rate=0.05).debug_string()
    '0 teams of 2'
    """

    METHOD = "self_tuning"
