"""Tune's own schedulers of trials, made from the settings of a search."""

from __future__ import annotations

import math
from typing import Any

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
)

from selftune.schedulers.sweep.admission import Admission
from selftune.schedulers.sweep.population import population_scheduler
from selftune.schedulers.sweep.records import TrialRecords
from selftune.schedulers.sweep.trial_scheduler import TIME, SweepScheduler
from selftune.search.space import SearchSpace
from selftune.search.trial_schedulers import (
    AshaSettings,
    HyperbandSettings,
    MedianSettings,
    NoScheduler,
    Pb2Settings,
    PopulationSettings,
)

_NEVER: Any = math.inf
"""How long a trial trains until the median rule pauses it for others to catch up: it decides without that."""


def sweep_scheduler(space: SearchSpace, records: TrialRecords, steps: int) -> SweepScheduler:
    """The scheduler that the settings of a search name.

    Args:
        space: what is searched; population-based training draws from it.
        records: with the settings.
        steps: training steps of a trial.
    """
    settings = records.settings
    chosen, limit = settings.scheduler, settings.concurrent
    by: dict[str, Any] = {"time_attr": TIME, "metric": settings.metric, "mode": settings.mode}
    match chosen:
        case NoScheduler():
            fifo = FIFOScheduler()  # type: ignore[no-untyped-call]
            return SweepScheduler(fifo, records, Admission(limit, "room"))
        case AshaSettings():
            grace = chosen.grace_steps or max(1, steps // chosen.reduction_factor**2)
            asha = ASHAScheduler(
                **by,
                max_t=steps,
                grace_period=grace,
                reduction_factor=chosen.reduction_factor,
                brackets=chosen.brackets,
            )
            return SweepScheduler(asha, records, Admission(limit, "room"))
        case MedianSettings():
            median = MedianStoppingRule(
                **by,
                grace_period=chosen.grace_steps or max(1, steps // 10),
                min_samples_required=chosen.trials,
                min_time_slice=_NEVER,
            )
            return SweepScheduler(median, records, Admission(limit, "room"))
        case HyperbandSettings():
            units = chosen.reduction_factor ** _halvings(steps / settings.report_every, chosen.reduction_factor)
            hyperband = _HyperBand(**by, max_t=units, reduction_factor=chosen.reduction_factor)
            return SweepScheduler(hyperband, records, Admission(limit, "brackets"), unit=steps / units)
        case PopulationSettings():
            population = population_scheduler(space, records, chosen.interval_steps or max(1, steps // 10), by)
            keeps_nan = isinstance(chosen, Pb2Settings)  # its Gaussian process leaves such points out
            admission = Admission(limit, "all")
            return SweepScheduler(population, records, admission, keeps_nan=keeps_nan, only_shares_time=True)
        case other:
            raise TypeError(f"no scheduler has the settings {other!r}")


class _HyperBand(HyperBandScheduler):
    """HyperBand whose new trials wait paused for their turn, all of a bracket together.

    Tune's own goes on filling a bracket whose trials have ended, so that one of full-length trials takes all that
    come, and compares none.
    """

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if not self.is_filling:
            self._state["bracket"] = None  # the next one is begun
        super().on_trial_add(tune_controller, trial)

    @property
    def is_filling(self) -> bool:
        bracket: Any = self._state["bracket"]
        return bracket is not None and len(bracket._all_trials) < bracket._n0

    def held_back(self, trial: Any) -> None:
        self._trial_info[trial][0].trials_to_unpause.add(trial)

    def goes_back(self, trial: Any, time: float) -> None:
        """A trial whose worker died starts again from its checkpoint of this time: its bracket waits for it.

        Tune's own takes a trial that has reported at a rung for one that is paused there. It would halve the
        bracket while the trial trains again, and then stop the wrong one, or fail.
        """
        bracket = self._trial_info[trial][0]
        result = bracket._live_trials.get(trial)
        if result is not None and result[self._time_attr] > time:
            bracket._completed_progress -= result[self._time_attr] - time
            bracket._live_trials[trial] = {**result, self._time_attr: time}


def _halvings(reports: float, factor: int) -> int:
    """How often trials can be divided by ``factor`` so that the first rung is at least one report.

    Its time is counted in that rung: brackets for as many halvings as there are training steps in a trial would be
    larger than any search.
    """
    return max(1, math.floor(math.log(reports) / math.log(factor) + 1e-9)) if reports > 1 else 0
