"""The lines of a method that solves its lower level: upper steps, accuracy, error bounds, work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from selftune.methods import Budget, HyperStep, Report
from selftune.methods.reports import Differentiated, Finished
from selftune.studies.progress import Progress


class SmoothProgress(Progress):
    """Says how far a method without training steps is; arguments as of ``Progress``.

    >>> from selftune.methods import Budget
    >>> SmoothProgress(print, "ridge", Budget(work=100)).started(None, 1)
    ridge: 0/100 gradients and products, 0 upper steps
    """

    def __init__(
        self, say: Callable[[str], None], title: str, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(say, title, budget, clock)
        self._work = 0
        self._level = math.nan

    def reported(self, member: int, report: Report) -> None:
        if not isinstance(report, Finished):  # which measures what was found
            self._work += int(report.metrics.get("work", 0))
        self._training_step = self._work  # what the last line waits for
        if self._step is None:
            self._seconds += report.metrics.get("seconds", 0.0)
        if isinstance(report, Differentiated):
            self._level = report.validation_loss
        if self._began is None:
            self._began = self._clock(), self.share()
        self._show()

    def hyper_step(self, step: HyperStep) -> None:
        self._level = step.validation_loss
        super().hyper_step(step)

    def _steps(self) -> int:
        return 0 if self._step is None else self._step.number + 1

    def share(self) -> float:
        """The share of the budget that is used up, in [0, 1]."""
        if self._budget.steps is not None:
            return min(1.0, self._steps() / self._budget.steps)
        assert self._budget.work is not None
        return min(1.0, self._work / self._budget.work)

    def progress(self) -> str:
        if self._budget.steps is not None:
            return f"{self._steps()}/{self._budget.steps} upper steps, {self._work} gradients and products"
        return f"{self._work}/{self._budget.work} gradients and products, {self._steps()} upper steps"

    def _losses(self) -> Iterator[str]:
        if self._step is None:
            if not math.isnan(self._level):
                yield f"upper-level loss {self._level:.4g}"
            return
        for name, value in measured(self._step):
            if not math.isnan(value):
                yield f"{name} {value:.3g}"


def measured(step: HyperStep) -> Iterator[tuple[str, float]]:
    """What is shown of an upper step, by name; nan where the method does not know it."""
    known = step.certificate
    yield "upper-level loss", step.validation_loss
    yield "hypergradient norm", known.get("hypergradient_norm", math.nan)
    yield "its error bound", known.get("hypergradient_bound", math.nan)
    yield "accuracy asked", known.get("error_asked", math.nan)
