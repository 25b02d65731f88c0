"""The scheduler's companion: Ray Tune saves and restores callbacks, which it does not do with schedulers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.result import DONE

if TYPE_CHECKING:
    from selftune.schedulers.scheduler import BilevelScheduler

_MOST = 50  # hyperparameters in every result; a thousand cost Tune more time than a step, and are in the last one


class StateCallback(Callback):
    """Carries a scheduler's state through Tune's snapshots, and keeps payloads away from loggers.

    Tune saves callbacks and trials one after the other in one thread, so both tell of the same moment. On
    ``Tuner.restore`` it unpickles scheduler and callback from one file, as they were before the first run,
    and gives the callback its state before it adds the first trial. Put it before any logger.

    Args:
        scheduler: the one in ``TuneConfig(scheduler=...)``.
    """

    def __init__(self, scheduler: BilevelScheduler) -> None:
        self._scheduler = scheduler

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._scheduler.on_callback_ready()

    def get_state(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def set_state(self, state: dict[str, Any]) -> None:
        self._scheduler.load_state_dict(state)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        for key in ("report", "space", "incarnation"):
            result.pop(key, None)
        step = self._scheduler.hyper_step_of(trial)
        result["hyper_step"] = math.nan if step is None else step
        values = self._scheduler.hyperparameters_of(trial)
        if values and (len(values) <= _MOST or result.get(DONE)):
            result["hyperparameters"] = values

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._scheduler.on_checkpoint(trial)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._scheduler.on_end()
