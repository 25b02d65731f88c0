"""What a person sees while a study solves its lower level: upper steps, accuracy, error bounds, work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from selftune.methods import Budget, HyperStep, Report
from selftune.studies.display import Display, History, sparkline


class SmoothDisplay(Display):
    """Shows a study without training steps; arguments as of ``Display``."""

    def __init__(
        self, console: Console, title: str, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, title, budget, clock)
        self._work = 0
        self._level = math.nan
        self._measured: dict[str, History] = {}

    def reported(self, member: int, report: Report) -> None:
        if report.kind != "finish":  # which measures what was found
            self._work += int(report.metrics.get("work", 0))
        self._training_step = self._work  # what the last line waits for
        if self._step is None:
            self._seconds += report.metrics.get("seconds", 0.0)
        if report.kind == "hypergradient":
            self._level = report.metrics["validation_loss"]
        if self._began is None:
            self._began = self._clock(), self._share()
        self._show()

    def hyper_step(self, step: HyperStep) -> None:
        self._level = step.validation_loss
        for name, value in self._measures(step):
            self._measured.setdefault(name, History()).append(value)
        super().hyper_step(step)

    def _measures(self, step: HyperStep) -> Iterator[tuple[str, float]]:
        known = step.certificate
        yield "upper-level loss", step.validation_loss
        yield "hypergradient norm", known["hypergradient_norm"]
        yield "its error bound", known["hypergradient_bound"]
        yield "accuracy asked", known["error_asked"]

    def _numbers(self) -> Table:
        table = Table.grid(Column(), Column(min_width=9), Column(), padding=(0, 1))
        if self._step is None:
            table.add_row("upper-level loss", f"{self._level:.4g}")
            return table
        for name, value in self._measures(self._step):
            if not math.isnan(value):
                trend = sparkline(self._measured[name].numbers())
                table.add_row(name, f"{value:.4g}", Text(trend, style="cyan"))
        return table

    def _steps(self) -> int:
        return 0 if self._step is None else self._step.number + 1

    def _share(self) -> float:
        if self._budget.steps is not None:
            return min(1.0, self._steps() / self._budget.steps)
        assert self._budget.work is not None
        return min(1.0, self._work / self._budget.work)

    def _progress(self) -> str:
        if self._budget.steps is not None:
            return f"{self._steps()}/{self._budget.steps} upper steps, {self._work} gradients and products"
        return f"{self._work}/{self._budget.work} gradients and products, {self._steps()} upper steps"

    def _phase(self) -> str:
        return ""

    def _losses(self) -> Iterator[str]:
        if self._step is None:
            if not math.isnan(self._level):
                yield f"upper-level loss {self._level:.4g}"
            return
        for name, value in self._measures(self._step):
            if not math.isnan(value):
                yield f"{name} {value:.3g}"
