"""Tune without its own lines on trials: the studies and sweeps that run on it say themselves how far they are."""

from __future__ import annotations

from typing import Any

from ray.tune.progress_reporter import TrialProgressCallback


class SilentProgress(TrialProgressCallback):
    """Stands in for the callback that Tune adds by itself, which speaks of ended trials even at verbosity 0."""

    def on_trial_result(self, *given: Any, **info: Any) -> None:
        pass

    def on_trial_error(self, *given: Any, **info: Any) -> None:
        pass

    def on_trial_complete(self, *given: Any, **info: Any) -> None:
        pass
