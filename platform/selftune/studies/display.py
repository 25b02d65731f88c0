"""What a person sees while a study runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from selftune.studies.progress import Progress
from selftune.studies.rows import MAXIMUM_ROWS, grouped

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import Budget, HyperStep
    from selftune.shapes import Float, Tensor

REFRESH_SECONDS = 0.125
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


class Display(Progress):
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
        super().__init__(partial(say, console), title, budget, clock)
        self._console = console
        draws = console.encoding.startswith("utf") and not console.is_dumb_terminal
        self._is_live = console.is_terminal and draws
        self._live: Live | None = None
        self._names: tuple[str, ...] = ()
        self._next_picture = -math.inf
        self._training = History()
        self._validation = History()
        self._hyperparameters = History()

    def started(self, space: Space, members: int) -> None:
        self._names = space.names
        if self._is_live and self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        super().started(space, members)

    def hyper_step(self, step: HyperStep) -> None:
        self._training.append(step.training_loss)
        self._validation.append(step.validation_loss)
        self._hyperparameters.append(step.hyperparameters)
        super().hyper_step(step)

    def warn(self, sentence: str) -> None:
        say(self._console, sentence, style="yellow")

    def ended(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif not self._is_live:
            super().ended()

    def _show(self) -> None:
        if not self._is_live:
            super()._show()
            return
        now = self._clock()
        if now >= self._next_picture and self._live is not None:
            self._next_picture = now + REFRESH_SECONDS
            self._live.update(self.picture(), refresh=True)

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
        while words and len(" · ".join([self.progress(), *words])) > room:
            del words[0]
        sentence = " · ".join([self.progress(), *words])
        return head_line(self._title, self.share(), sentence, room)

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

    def _phase(self) -> str:
        return f"hyper-step {self._step.number + 1}" if self._step else "warming up"


def say(console: Console, sentence: str, style: str = "") -> None:
    """Prints a sentence as it is: on one line, however long, and with no meaning in its brackets."""
    console.print(sentence, style=style, soft_wrap=True, highlight=False, markup=False)


def head_line(title: str, share: float, sentence: str, room: int) -> Table:
    """A title, a bar and a sentence in one line; the bar only where there is room for it.

    Args:
        share: that is done, in [0, 1].
        room: cells beside the title.
    """
    cells: list[RenderableType] = [Text(title, style="bold")]
    width = min(_BAR, room - len(sentence) - 1)
    if width >= _BAR // 3:
        cells.append(ProgressBar(total=1.0, completed=share, width=width))
    head = Table.grid(padding=(0, 1))
    head.add_row(*cells, Text(sentence))
    return head


def sparkline(series: Sequence[float]) -> str:
    """A series as a row of at most 16 little bars; flat where it moves less than four digits show.

    >>> sparkline([0.0, 1.0, 2.0]), sparkline([1.0, 1.00001, 1.0])
    ('▁▄█', '▁▁▁')
    """
    series = _drawn(series)
    finite = [value for value in series if math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), _span(finite) or math.inf
    return "".join(
        _BLOCKS[min(int((value - low) / span * (len(_BLOCKS) - 1)), len(_BLOCKS) - 1)]
        if math.isfinite(value)
        else " "
        for value in series
    )


def trend_mark(series: Sequence[float]) -> str:
    """Where the curve that ``sparkline`` draws is heading in its last quarter, measured by its whole range.

    A line is fitted to the quarter, so that one value aside does not turn the mark.

    >>> trend_mark([0, 1, 2, 3, 4, 5, 6, 7]), trend_mark([1, 1, 1]), trend_mark([0, 5, 5, 5, 5, 5, 5, 4.5])
    ('↑', '→', '↘')
    """
    series = [value for value in _drawn(series) if math.isfinite(value)]
    span = _span(series)
    if not span:
        return "→"
    quarter = series[-1 - max(1, len(series) // 4) :]
    middle = (len(quarter) - 1) / 2
    slope = sum((at - middle) * value for at, value in enumerate(quarter))
    slope /= sum((at - middle) ** 2 for at in range(len(quarter)))
    change = slope * (len(quarter) - 1) / span
    for mark, bound in (("↑", 0.2), ("↗", 0.03), ("→", -0.03), ("↘", -0.2)):
        if change > bound:
            return mark
    return "↓"


def _drawn(series: Sequence[float]) -> Sequence[float]:
    """The values that have a bar."""
    if len(series) <= _WIDTH:
        return series
    last = len(series) - 1
    return [series[round(index * last / (_WIDTH - 1))] for index in range(_WIDTH)]


def _span(series: Sequence[float]) -> float:
    """How far a series moves; 0 where four digits show no move."""
    span = max(series, default=0.0) - min(series, default=0.0)
    return span if span > 1e-4 * max((abs(value) for value in series), default=0.0) else 0.0
