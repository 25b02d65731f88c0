"""What a trial of a sweep runs, made where it runs: on a worker, of the study file and the values drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftune.studies.study_file import parse_study
from selftune.sweeps.swept_study import text_of

if TYPE_CHECKING:
    from selftune.schedulers.sweep.trial import TrialPlan


@dataclass(frozen=True)
class TrialPlanner:
    """Makes the plan of a trial of its values; it travels to the workers, so it holds no more than a text.

    Args:
        content: of the study file, without its section ``sweep``.
    """

    content: Mapping[str, Any]

    def __call__(self, values: Mapping[str, Any]) -> TrialPlan:
        from selftune.schedulers.sweep.trial import TrialPlan

        study = parse_study(text_of(self.content, values))
        assert study.budget.steps is not None
        return TrialPlan(
            method=study.strategy.method,
            trainers=study.strategy.trainers(),
            members=study.trainers.number,
            steps=study.budget.steps,
            device=study.trainers.device,
            workers=study.trainers.workers,
        )
