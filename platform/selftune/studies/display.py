"""What a person sees while a study runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from selftune.listener import Listener

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import Budget, HyperStep, Report
    from selftune.shapes import Float, Tensor

REFRESH_SECONDS = 0.125
LINE_SECONDS = 3.0  # between two plain lines, at least
QUIET_SECONDS = 60.0  # between two plain lines, at most
MAXIMUM_ROWS = 20
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 16
_BAR = 24
_NUMBER = 9  # characters of a number such as 1.234e-05, so that what stands beside it does not jump


class History:
    """At most ``2 * _WIDTH`` snapshots of a growing series, evenly spaced, the first and latest among them.

    >>> history = History()
    >>> for number in range(1000):
    ...     history.append(number)
    >>> values = history.values()
    >>> values[0], values[-1], len(values) <= 33
    (0, 999, True)
    """

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._stride = 1
        self._seen = 0
        self._latest: object = None

    def append(self, value: object) -> None:
        if self._seen % self._stride == 0:
            self._kept.append(value)
            if len(self._kept) > 2 * _WIDTH:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._seen += 1
        self._latest = value

    def values(self) -> list[object]:
        is_kept = bool(self._kept) and self._kept[-1] is self._latest
        return list(self._kept) if is_kept or not self._seen else [*self._kept, self._latest]

    def numbers(self) -> list[float]:
        return [float(value) for value in self.values()]  # type: ignore[arg-type]


class Display(Listener):
    """Shows a running study.

    Between two pictures (or lines) a hyper-step costs an append and a look at the clock.

    Args:
        console: where to; a terminal gets a live display, anything else plain lines.
        title: what runs.
        budget: how long it runs.
        clock: seconds, for the pace of pictures and the time left.
    """

    def __init__(
        self, console: Console, title: str, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._title = title
        self._budget = budget
        self._clock = clock
        draws = console.encoding.startswith("utf") and not console.is_dumb_terminal
        self._is_live = console.is_terminal and draws
        self._live: Live | None = None
        self._names: tuple[str, ...] = ()
        self._training_step = 0
        self._seconds = 0.0
        self._warmup_seconds: dict[int, float] = {}
        self._began: tuple[float, float] | None = None  # clock and share done at the first report
        self._next_picture = -math.inf
        self._last_line = -math.inf
        self._printed = ""
        self._next_share = 0.0
        self._step: HyperStep | None = None
        self._training_loss = math.nan
        self._training = History()
        self._validation = History()
        self._hyperparameters = History()

    # Listener ----------------------------------------------------------------------------------------

    def started(self, space: Space, members: int) -> None:
        self._names = space.names
        if self._is_live and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
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
            self._began = self._clock(), self._share()
        if self._step is None:  # else the hyper-step follows
            self._show()

    def hyper_step(self, step: HyperStep) -> None:
        self._step = step
        self._seconds = step.seconds
        self._training.append(step.training_loss)
        self._validation.append(step.validation_loss)
        self._hyperparameters.append(step.hyperparameters)
        self._show()

    def lost(self, member: int, reason: str) -> None:
        say(self._console, f"trainer {member} is lost: {reason}", style="yellow")

    def ended(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._training_step and not self._is_live:
            self._print_line()

    # Pictures ----------------------------------------------------------------------------------------

    def _show(self) -> None:
        now = self._clock()
        if now < self._next_picture:
            return
        self._next_picture = now + REFRESH_SECONDS
        if self._live is not None:
            self._live.update(self.picture(), refresh=True)
        elif self._is_line_due(now):
            self._print_line()

    def _is_line_due(self, now: float) -> bool:
        if self._is_live or now < self._last_line + LINE_SECONDS:
            return False
        return self._share() >= self._next_share or now >= self._last_line + QUIET_SECONDS

    def _print_line(self) -> None:
        self._last_line = self._clock()
        self._next_share = math.floor(10 * self._share() + 1e-9) / 10 + 0.1
        parts = [f"{self._title}: {self._progress()}", *self._losses()]
        left = self._left()
        if left:
            parts.append(left)
        line = ", ".join(parts)
        if line != self._printed:  # the last report and the end of a run may find nothing new
            say(self._console, line)
        self._printed = line

    def picture(self) -> Group:
        """The live display as it would be drawn now."""
        return Group(self._head(), self._numbers(), self._table())

    def _numbers(self) -> Table:
        losses = Table.grid(Column(), Column(min_width=_NUMBER), Column(), padding=(0, 1))
        if self._step is not None:
            for name, value, history in (
                ("training loss", self._step.training_loss, self._training),
                ("validation loss", self._step.validation_loss, self._validation),
            ):
                losses.add_row(name, f"{value:.4g}", Text(sparkline(history.numbers()), style="cyan"))
        else:
            losses.add_row("training loss", f"{self._training_loss:.4g}")
        return losses

    def _head(self) -> Table:
        """Title, bar and words, in one line: where the terminal is narrow, less of them."""
        room = self._console.width - cell_len(self._title) - 1
        words = [phase] if (phase := self._phase()) else []
        if left := self._left():
            words.append(left)
        while words and len(" · ".join([self._progress(), *words])) > room:
            del words[0]
        sentence = " · ".join([self._progress(), *words])
        cells: list[RenderableType] = [Text(self._title, style="bold")]
        width = min(_BAR, room - len(sentence) - 1)
        if width >= _BAR // 3:
            cells.append(ProgressBar(total=1.0, completed=self._share(), width=width))
        head = Table.grid(padding=(0, 1))
        head.add_row(*cells, Text(sentence))
        return head

    def _table(self) -> Table | Text:
        histories = self._hyperparameters.values()
        if not histories:
            return Text("")
        columns: list[Float[Tensor, "n"]] = histories  # type: ignore[assignment]
        table = Table(box=None, padding=(0, 1), header_style="bold")
        table.add_column("hyperparameter", no_wrap=True)
        table.add_column("start", justify="right")
        table.add_column("now", justify="right", min_width=_NUMBER)
        table.add_column("trend")
        rows = grouped(self._names)
        for label, index in list(rows.items())[:MAXIMUM_ROWS]:
            series = [float(values[index].mean()) for values in columns]
            trend = Text(f"{trend_mark(series)} {sparkline(series)}", style="cyan")
            table.add_row(Text(label), f"{series[0]:.4g}", f"{series[-1]:.4g}", trend)
        if len(rows) > MAXIMUM_ROWS:
            table.add_row(f"and {len(rows) - MAXIMUM_ROWS} more")
        return table

    # Words -------------------------------------------------------------------------------------------

    def _share(self) -> float:
        if self._budget.steps is not None:
            return min(1.0, self._training_step / self._budget.steps)
        assert self._budget.seconds is not None
        return min(1.0, self._seconds / self._budget.seconds)

    def _progress(self) -> str:
        if self._budget.steps is not None:
            return f"{self._training_step}/{self._budget.steps} training steps"
        assert self._budget.seconds is not None
        digits = 1 if self._budget.seconds < 60 else 0
        seconds = f"{self._seconds:.{digits}f}"
        return f"{self._training_step} training steps in {seconds} of {self._budget.seconds:g} s"

    def _phase(self) -> str:
        return f"hyper-step {self._step.number + 1}" if self._step else "warming up"

    def _losses(self) -> Iterator[str]:
        if self._step is not None:
            yield f"hyper-step {self._step.number + 1}"
            yield f"training loss {self._step.training_loss:.4g}"
            yield f"validation loss {self._step.validation_loss:.4g}"
        elif not math.isnan(self._training_loss):
            yield f"training loss {self._training_loss:.4g}"

    def _left(self) -> str:
        if self._began is None:
            return ""
        then, share_then = self._began
        elapsed, gained = self._clock() - then, self._share() - share_then
        if gained <= 0 or elapsed <= 0 or self._share() >= 1:
            return ""
        return f"{duration(elapsed / gained * (1 - self._share()))} left"


def say(console: Console, sentence: str, style: str = "") -> None:
    """Prints a sentence as it is: on one line, however long, and with no meaning in its brackets."""
    console.print(sentence, style=style, soft_wrap=True, highlight=False, markup=False)


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """The rows of a table of hyperparameters: columns by label, parts of a name together where many.

    >>> grouped(["mixup.alpha", "dropout.rate[input]"])
    {'mixup.alpha': [0], 'dropout.rate[input]': [1]}
    >>> grouped([f"dropout.rate[{part}]" for part in range(30)]).keys()
    dict_keys(['dropout.rate (mean of 30)'])
    """
    if len(names) <= MAXIMUM_ROWS:
        return {name: [index] for index, name in enumerate(names)}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.partition("[")[0], []).append(index)
    return {name if len(index) == 1 else f"{name} (mean of {len(index)})": index for name, index in groups.items()}


def sparkline(series: Sequence[float], width: int = _WIDTH) -> str:
    """A series as a row of little bars.

    >>> sparkline([0.0, 1.0, 2.0])
    '▁▄█'
    """
    if len(series) > width:
        last = len(series) - 1
        series = [series[round(index * last / (width - 1))] for index in range(width)]
    finite = [value for value in series if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low or 1.0
    return "".join(
        _BLOCKS[int((value - low) / span * (len(_BLOCKS) - 1))] if math.isfinite(value) else " "
        for value in series
    )


def trend_mark(series: Sequence[float]) -> str:
    """Where a series is heading in its last quarter, measured by its whole range.

    >>> trend_mark([0, 1, 2, 3, 4, 5, 6, 7]), trend_mark([1, 1, 1]), trend_mark([0, 5, 5, 5, 5, 5, 5, 4.5])
    ('↑', '→', '↘')
    """
    span = max(series) - min(series)
    if not span > 1e-6 * max(abs(value) for value in series):
        return "→"
    change = (series[-1] - series[-1 - max(1, len(series) // 4)]) / span
    for mark, bound in (("↑", 0.2), ("↗", 0.03), ("→", -0.03), ("↘", -0.2)):
        if change > bound:
            return mark
    return "↓"


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
