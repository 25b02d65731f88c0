"""What a person sees while a sweep runs: a live table of trials on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from selftune.search import SearchSettings, TrialRecord
from selftune.studies.display import REFRESH_SECONDS, History, head_line, say, sparkline
from selftune.studies.progress import LINE_SECONDS, QUIET_SECONDS
from selftune.sweeps.progress import SweepProgress
from selftune.tracking.swept_values import short_names, value_text

BEST_ROWS, RUNNING_ROWS = 5, 8
MESSAGES = 5  # of trials that failed, and of those that were refused, before a line says where the others are
_TITLE = 8  # characters that a column's title may have in a line, however short its cells are
_STATUSES = ("running", "paused", "finished", "stopped", "failed", "refused")


class SweepDisplay(SweepProgress):
    """Shows a running sweep.

    Between two pictures (or lines) a record costs an entry in a table and a look at the clock.

    Args:
        console: where to; a terminal gets a live display, anything else plain lines.
        title: what runs.
        settings: of the search; its trials, steps and seconds say how much is left.
        trial_steps: training steps that a trial takes unless it is stopped; None if nobody knows.
        clock: seconds, for the pace of pictures and the time left.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        settings: SearchSettings,
        trial_steps: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(settings, trial_steps, clock)
        self._console, self._title = console, title
        draws = console.encoding.startswith("utf") and not console.is_dumb_terminal
        self._is_live = console.is_terminal and draws
        self._live: Live | None = None
        self._histories: dict[int, History] = {}
        self._best, self._lowest = History(), math.inf
        self._messages: Counter[str] = Counter()
        self._next_picture = self._last_line = -math.inf
        self._next_share = 0.0
        self._printed = ""

    # TrialsListener ----------------------------------------------------------------------------------

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        super().resumed(trials)
        self._histories = {}
        self._best, self._lowest = History(), math.inf
        if trials:
            say(self._console, f"{self._title}: goes on after {self.progress()}")
            self._last_line = self._clock()  # how far that is, the next record says
        if self._is_live and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def heard(self, trial: TrialRecord) -> None:
        before = self._trials.get(trial.number)
        super().heard(trial)
        if trial.spent > (0 if before is None else before.spent):  # a report
            history = self._histories.setdefault(trial.number, History())
            history.append(trial.measures.get(self._settings.metric, math.nan))
        if trial.best is not None and self._sign * trial.best < self._lowest:
            self._lowest = self._sign * trial.best
            self._best.append(trial.best)
        if trial.status in ("failed", "refused"):
            self._tell(trial)
        self._show()

    def ended(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif not self._is_live and self._trials:
            self._began = None  # nothing is left
            self._print_line()

    # Lines -------------------------------------------------------------------------------------------

    def _tell(self, trial: TrialRecord) -> None:
        self._messages[trial.status] += 1
        if self._messages[trial.status] <= MESSAGES:
            verb = "failed" if trial.status == "failed" else "is refused"
            say(self._console, f"trial {trial.number} {verb}: {trial.message}", style="yellow")
        elif self._messages[trial.status] == MESSAGES + 1:
            verb = "fail" if trial.status == "failed" else "are refused"
            say(self._console, f"more trials {verb}; trials.jsonl says why", style="yellow")

    def _show(self) -> None:
        now = self._clock()
        if self._is_live:
            if now >= self._next_picture and self._live is not None:
                self._next_picture = now + REFRESH_SECONDS
                self._live.update(self.picture(), refresh=True)
        elif now >= self._last_line + LINE_SECONDS and (
            self.share() >= self._next_share or now >= self._last_line + QUIET_SECONDS
        ):
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = self._clock()
        self._next_share = math.floor(10 * self.share() + 1e-9) / 10 + 0.1
        parts = [f"{self._title}: {self.progress()}"]
        counts = self.counts()
        parts += [f"{counts[status]} {status}" for status in ("running", "paused") if counts[status]]
        if leading := self.leading(1):
            parts.append(f"best {self.metric_words()} {leading[0].best:.4g} (trial {leading[0].number})")
        if left := self.time_left():
            parts.append(left)
        line = ", ".join(parts)
        if line != self._printed:
            say(self._console, line)
        self._printed = line

    # Pictures ----------------------------------------------------------------------------------------

    def picture(self) -> Group:
        """The live display as it would be drawn now."""
        leading = self.leading(BEST_ROWS)
        for number in set(self._histories) - {trial.number for trial in leading}:
            if self._trials[number].has_ended:  # neither grows any more nor is drawn
                del self._histories[number]
        return Group(self._head(), *self._sentences(leading), self._table(leading))

    def _head(self) -> Table:
        """Title, bar and words, in one line: where the terminal is narrow, less of them."""
        room = self._console.width - cell_len(self._title) - 1
        parts = [*self.budgets()]
        if left := self.time_left():
            parts.append(left)
        while len(parts) > 1 and len(" · ".join(parts)) > room:
            del parts[-2 if len(parts) > 2 else -1]
        sentence = " · ".join(parts)
        return head_line(self._title, self.share(), sentence, room)

    def _sentences(self, leading: list[TrialRecord]) -> Iterator[Text]:
        counts = self.counts()
        told = " · ".join(f"{counts[status]} {status}" for status in _STATUSES if counts[status])
        yield Text(f"trials: {told or 'none yet'}", no_wrap=True, overflow="ellipsis")
        if leading:
            best = leading[0]
            words = f"best {self.metric_words()} {best.best:.4g} · trial {best.number} at step {best.best_step} "
            yield Text.assemble(
                words, (sparkline(self._best.numbers()), "cyan"), no_wrap=True, overflow="ellipsis"
            )

    def _table(self, leading: list[TrialRecord]) -> RenderableType:
        shown = {trial.number for trial in leading}
        running = [trial for trial in self._trials.values() if not trial.has_ended and trial.number not in shown]
        running.sort(key=lambda trial: (trial.status, trial.number), reverse=True)  # running before paused
        hidden = len(running) - RUNNING_ROWS
        trials = leading + running[:RUNNING_ROWS]
        if not trials:
            return Text("")
        columns, left_out = _fitting(self._columns(trials), self._console.width)
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for column in columns:
            table.add_column(
                Text(column.title),
                justify="right" if column.is_number else "left",
                no_wrap=True,
                style=column.style,
            )
        for row in range(len(trials)):
            is_last = row == len(leading) - 1 and bool(running)
            style = "bold" if row == 0 and leading else ""
            table.add_row(*(Text(column.cells[row], style) for column in columns), end_section=is_last)
            if is_last:
                table.add_row()
        notes = [f"and {hidden} more running or paused"] if hidden > 0 else []
        if left_out:
            notes.append(f"not shown: {', '.join(left_out)}")
        words = Text(" · ".join(notes), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(table, words) if notes else table

    def _columns(self, trials: list[TrialRecord]) -> Iterator[_Column]:
        yield _Column("trial", [str(trial.number) for trial in trials], importance=0)
        keys = [*dict.fromkeys(key for trial in trials for key in trial.values)]
        for rank, (key, name) in enumerate(zip(keys, short_names(keys), strict=True)):
            cells = [value_text(trial.values[key]) if key in trial.values else "-" for trial in trials]
            is_number = all(isinstance(trial.values.get(key, 0), int | float) for trial in trials)
            yield _Column(name, cells, importance=3 if rank == 0 else 6, is_number=is_number, is_swept=True)
        yield _Column("step", [f"{trial.training_step:,}" for trial in trials], importance=4)
        values = [trial.measures.get(self._settings.metric, math.nan) for trial in trials]
        yield _Column(self._settings.metric, [_number(value) for value in values], importance=2)
        best = [_number(math.nan if trial.best is None else trial.best) for trial in trials]
        yield _Column("best", best, importance=1)
        curves = [self._histories.get(trial.number, History()).numbers() for trial in trials]
        if any(curves):
            yield _Column("trend", list(map(sparkline, curves)), importance=7, is_number=False, style="cyan")
        yield _Column("status", [str(trial.status) for trial in trials], importance=4, is_number=False)

    # Words -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """Of the table of trials; what is least important goes first where the terminal is narrow."""

    name: str
    cells: list[str]
    importance: int
    is_number: bool = True
    is_swept: bool = False
    style: str = ""

    @property
    def title(self) -> str:
        """The name, in lines that are hardly longer than the cells."""
        parts = re.split(r"(?<=[._])", self.name)
        room = max(map(cell_len, [*self.cells, *parts, " " * _TITLE]))
        lines = [parts[0]]
        for part in parts[1:]:
            if cell_len(lines[-1] + part) <= room:
                lines[-1] += part
            else:
                lines.append(part)
        return "\n".join(lines)

    @property
    def width(self) -> int:
        return max(map(cell_len, [*self.title.split("\n"), *self.cells])) + 2


def _fitting(columns: Iterator[_Column], room: int) -> tuple[list[_Column], list[str]]:
    """The columns that fit side by side, and the names of the swept keys that have no place."""
    every = list(columns)
    kept: set[int] = set()
    for index in sorted(range(len(every)), key=lambda index: every[index].importance):
        if sum(every[one].width for one in kept) + every[index].width <= room:
            kept.add(index)
    left_out = [column.name for index, column in enumerate(every) if column.is_swept and index not in kept]
    return [every[index] for index in sorted(kept)], left_out


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
