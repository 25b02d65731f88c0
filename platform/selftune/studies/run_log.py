"""What happens to the trainers of a study, as log lines of its driver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from selftune.listener import Listener, Place
from selftune.logs import SHOWN, about

if TYPE_CHECKING:
    from selftune.methods import HyperStep, Report

logger = logging.getLogger(__name__)


class RunLog(Listener):
    """Logs who comes and goes; reports and hyper-steps too, at the level ``debug``."""

    def arrived(self, member: int, place: Place) -> None:
        with about(trainer=member):
            logger.info("is there: process %d on %s", place.process, place.host)

    def departed(self, member: int, reason: str) -> None:
        with about(trainer=member):
            logger.warning("failed, and is started again: %s", reason, extra=SHOWN)

    def left_out(self, member: int, reason: str) -> None:
        with about(trainer=member):
            logger.warning("%s", reason, extra=SHOWN)

    def hung(self, member: int, reason: str) -> None:
        with about(trainer=member):
            logger.warning("%s; its process is ended", reason)

    def reported(self, member: int, report: Report) -> None:
        with about(trainer=member):
            logger.debug("order %d, %s: %s", report.number, report.kind, _numbers(report.metrics))

    def hyper_step(self, step: HyperStep) -> None:
        for member, fault in step.faults.items():
            with about(trainer=member):
                level = logging.WARNING if fault.first or fault.remark else logging.INFO
                logger.log(level, "%s", fault.sentence(member, step.number), extra=SHOWN)
        numbers = {"training_loss": step.training_loss, "validation_loss": step.validation_loss}
        logger.debug("hyper-step %d at training step %d: %s", step.number, step.training_step, _numbers(numbers))

    def lost(self, member: int, reason: str) -> None:
        with about(trainer=member):
            logger.warning("is lost: %s", reason, extra=SHOWN)


def _numbers(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
