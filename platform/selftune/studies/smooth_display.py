"""What a person sees while a study solves its lower level: upper steps, accuracy, error bounds, work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from selftune.methods import Budget, HyperStep
from selftune.studies.display import Display, History, sparkline
from selftune.studies.smooth_progress import SmoothProgress, measured


class SmoothDisplay(Display, SmoothProgress):
    """Shows a study without training steps; arguments as of ``Display``."""

    def __init__(
        self, console: Console, title: str, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, title, budget, clock)
        self._measured: dict[str, History] = {}

    def hyper_step(self, step: HyperStep) -> None:
        for name, value in measured(step):
            self._measured.setdefault(name, History()).append(value)
        super().hyper_step(step)

    def _numbers(self) -> Table:
        table = Table.grid(Column(), Column(min_width=9), Column(), padding=(0, 1))
        if self._step is None:
            table.add_row("upper-level loss", f"{self._level:.4g}")
            return table
        for name, value in measured(self._step):
            if not math.isnan(value):
                trend = sparkline(self._measured[name].numbers())
                table.add_row(name, f"{value:.4g}", Text(trend, style="cyan"))
        return table

    def _phase(self) -> str:
        return ""
