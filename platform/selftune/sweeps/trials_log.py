"""What becomes of the trials of a sweep, as log lines of its driver."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from selftune.logs import SHOWN, about
from selftune.search import TrialRecord, TrialsListener

logger = logging.getLogger(__name__)


class TrialsLog(TrialsListener):
    """Logs which trials start and end, and how; reports too, at the level ``debug``."""

    def __init__(self) -> None:
        self._status: dict[int, str] = {}

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        self._status = {number: trial.status for number, trial in trials.items()}
        if trials:
            logger.info("goes on with %d trials", len(trials))

    def heard(self, trial: TrialRecord) -> None:
        changed = self._status.get(trial.number) != trial.status
        self._status[trial.number] = trial.status
        level = logging.DEBUG if not changed else logging.WARNING if trial.status == "failed" else logging.INFO
        with about(team=trial.number):
            best = "" if trial.best is None else f", best {trial.best:.6g}"
            why = f": {trial.message}" if trial.message else ""
            words = (trial.status, trial.training_step, best, why)
            logger.log(level, "%s at training step %d%s%s", *words, extra=SHOWN)

    def hung(self, number: int, reason: str) -> None:
        with about(team=number):
            logger.warning("%s; its processes are ended", reason)

    def departed(self, number: int, reason: str) -> None:
        with about(team=number):
            logger.warning("failed, and is started again: %s", reason, extra=SHOWN)
