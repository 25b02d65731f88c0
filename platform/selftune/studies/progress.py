"""What a person sees of a running method where there is no terminal to draw on: one line at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from selftune.listener import Listener

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import Budget, HyperStep, Report

LINE_SECONDS = 3.0  # between two lines, at least
QUIET_SECONDS = 60.0  # between two lines, at most


class Progress(Listener):
    """Says in lines how far a method is, and how long it will take.

    Between two lines a hyper-step costs a look at the clock.

    Args:
        say: takes a line.
        title: what runs.
        budget: how long it runs.
        clock: seconds, for the pace of lines and the time left.

    >>> from selftune.methods import Budget
    >>> from selftune.methods.reports import Trained
    >>> progress = Progress(print, "digits", Budget(steps=100))
    >>> progress.started(None, 1)
    digits: 0/100 training steps
    >>> progress.reported(0, Trained(training_step=50, training_loss=0.5))
    >>> progress.ended()
    digits: 50/100 training steps, training loss 0.5
    """

    def __init__(
        self, say: Callable[[str], None], title: str, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.say = say
        self._title = title
        self._budget = budget
        self._clock = clock
        self._training_step = 0
        self._seconds = 0.0
        self._warmup_seconds: dict[int, float] = {}
        self._began: tuple[float, float] | None = None  # clock and share done at the first report
        self._last_line = -math.inf
        self._printed = ""
        self._next_share = 0.0
        self._step: HyperStep | None = None
        self._training_loss = math.nan

    # Listener ----------------------------------------------------------------------------------------

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        if hyper_steps:
            self.say(f"{self._title}: goes on after hyper-step {hyper_steps}")
            self._last_line = self._clock()  # how far that is, the next report says

    def started(self, space: Space, members: int) -> None:
        self._show()

    def reported(self, member: int, report: Report) -> None:
        if report.kind == "diverged":
            return
        self._training_step = int(report.metrics.get("training_step", self._training_step))
        if self._step is None:  # later the hyper-steps say it
            spent = self._warmup_seconds.get(member, 0.0) + report.metrics.get("seconds", 0.0)
            self._warmup_seconds[member] = spent
            self._seconds = max(self._warmup_seconds.values())
        self._training_loss = report.metrics.get("training_loss", self._training_loss)
        if self._began is None:
            self._began = self._clock(), self.share()
        if self._step is None:  # else the hyper-step follows
            self._show()

    def hyper_step(self, step: HyperStep) -> None:
        for member, fault in step.faults.items():
            if fault.first or fault.remark:
                self.warn(fault.sentence(member, step.number))
        self._step = step
        self._seconds = step.seconds
        self._show()

    def lost(self, member: int, reason: str) -> None:
        self.warn(f"trainer {member} is lost: {reason}")

    def warn(self, sentence: str) -> None:
        """Says what a person should know."""
        self.say(sentence)

    def ended(self) -> None:
        if self._training_step:
            self._print_line()

    # Lines -------------------------------------------------------------------------------------------

    def _show(self) -> None:
        now = self._clock()
        if now < self._last_line + LINE_SECONDS:
            return
        if self.share() >= self._next_share or now >= self._last_line + QUIET_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = self._clock()
        self._next_share = math.floor(10 * self.share() + 1e-9) / 10 + 0.1
        parts = [f"{self._title}: {self.progress()}", *self._losses()]
        left = self._left()
        if left:
            parts.append(left)
        line = ", ".join(parts)
        if line != self._printed:  # the last report and the end of a run may find nothing new
            self.say(line)
        self._printed = line

    # Words -------------------------------------------------------------------------------------------

    def share(self) -> float:
        """The share of the budget that is used up, in [0, 1]."""
        if self._budget.steps is not None:
            return min(1.0, self._training_step / self._budget.steps)
        assert self._budget.seconds is not None
        return min(1.0, self._seconds / self._budget.seconds)

    def progress(self) -> str:
        """How far the run is, in words."""
        if self._budget.steps is not None:
            return f"{self._training_step}/{self._budget.steps} training steps"
        assert self._budget.seconds is not None
        digits = 1 if self._budget.seconds < 60 else 0
        seconds = f"{self._seconds:.{digits}f}"
        return f"{self._training_step} training steps in {seconds} of {self._budget.seconds:g} s"

    def _losses(self) -> Iterator[str]:
        if self._step is not None:
            yield f"hyper-step {self._step.number + 1}"
            yield f"training loss {self._step.training_loss:.4g}"
            yield f"validation loss {self._step.validation_loss:.4g}"
        elif not math.isnan(self._training_loss):
            yield f"training loss {self._training_loss:.4g}"

    def seconds_left(self) -> float | None:
        """How long the run will go on; None where that cannot be said."""
        return None if self._began is None else seconds_left(self._began, (self._clock(), self.share()))

    def _left(self) -> str:
        return "" if self._began is None else time_left(self._began, (self._clock(), self.share()))


def seconds_left(began: tuple[float, float], now: tuple[float, float]) -> float | None:
    """How long a run will go on; None where that cannot be said.

    Args:
        began, now: seconds of a clock, and the share that was or is done.

    >>> seconds_left((0.0, 0.0), (75.0, 0.5))
    75.0
    """
    elapsed, gained = now[0] - began[0], now[1] - began[1]
    if gained <= 0 or elapsed <= 0 or now[1] >= 1:
        return None
    return elapsed / gained * (1 - now[1])


def time_left(began: tuple[float, float], now: tuple[float, float]) -> str:
    """``seconds_left`` in words; nothing where that cannot be said.

    >>> time_left((0.0, 0.0), (75.0, 0.5))
    '1:15 left'
    """
    left = seconds_left(began, now)
    return "" if left is None else f"{duration(left)} left"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
