"""The penalty method as a Ray Tune scheduler."""

from __future__ import annotations

from selftune.schedulers.method import NetworkScheduler


class PenaltyScheduler(NetworkScheduler):
    """Tunes hyperparameters while the trials train, by first derivatives alone (arXiv 2309.01753).

    Trials work in pairs with the same random numbers: one trains its network plainly, the other with a share of
    the validation loss; what their training losses say of the hyperparameters differs by the hypergradient. A
    team is one pair or several, and shares one hyperparameter vector.

        scheduler = PenaltyScheduler(steps=3000)
        tune.Tuner(
            trainable(TrainerFactory(objective, regularizers, group_size=2)),
            tune_config=tune.TuneConfig(scheduler=scheduler, num_samples=2),
            run_config=scheduler.run_config(name="digits"),
        ).fit()

    Args:
        steps, seconds: the budget, one of the two: training steps of every trainer, or seconds of its time.
        team_size: trials that share one hyperparameter vector, an even number.
        transport, listener, patience, hang_after: see ``BilevelScheduler``.
        settings: those of ``selftune.methods.PenaltySettings``.

    Raises:
        SettingError: if a setting is unknown or out of its range, or a team is not made of pairs.

    >>> PenaltyScheduler(steps=3000, sigma=0.1).debug_string()
    '0 teams of 2'
    """

    METHOD = "penalty"
