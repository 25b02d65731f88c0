"""A comparison as people read it: tables on a console, and as Markdown beside the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selftune.lower_level.better import mode_of
from selftune.storage.files import replacing
from selftune.studies.display import say
from selftune.studies.progress import duration
from selftune.sweeps.comparison.comparison import Comparison
from selftune.sweeps.comparison.record import FILE, ComparisonRecord
from selftune.sweeps.comparison.table import (
    BEST_AT,
    SECONDS,
    STEPS,
    Averaged,
    Row,
    StartsRow,
    missing,
    rows_of,
    starts_rows_of,
)
from selftune.tracking.comparison_plot import Curve, comparison_plot

MARKDOWN, PICTURE = "comparison.md", "comparison.svg"
_WORST = "worst decile"


def print_comparison(console: Console, comparison: Comparison, record: ComparisonRecord, folder: Path) -> None:
    """The tables, what is missing, and where everything is."""
    console.print()
    for title, head, body, best in _tables(comparison, record):
        say(console, title, style="italic")
        table = Table(box=None, padding=(0, 1))
        for index, name in enumerate(head):
            table.add_column(
                name.replace("_", "\n").replace(" at ", "\nat "),
                justify="right" if index else "left",
                no_wrap=not index,
            )
        for number, cells in enumerate(body):
            table.add_row(
                *(Text(cell, style="bold" if (number, at) in best else "") for at, cell in enumerate(cells))
            )
        console.print(table)
        console.print()
    for line in _remarks(comparison, record):
        say(console, line)
    if missing(comparison, record):
        say(console, f"go on with `selftune resume {folder}`")
    say(console, f"folder  {folder} (tables {MARKDOWN}, picture {PICTURE}, numbers {FILE})")


def write_comparison(folder: Path, comparison: Comparison, record: ComparisonRecord) -> None:
    """Writes the tables, and the picture once there is something to draw, into the folder of a comparison."""
    curves = _curves(comparison, record)
    _write_markdown(folder, comparison, record, has_picture=bool(curves))
    if not curves:
        return
    settings = comparison.settings
    plot = comparison_plot(
        curves,
        budget=float(settings.steps or settings.seconds or 0.0),
        metric=record.metric,
        mode=record.mode,
        unit="training steps of all networks" if comparison.axis == "spent" else "seconds",
    )
    with replacing(folder / PICTURE) as temporary:
        temporary.write_text(plot.svg, encoding="utf-8")


def _curves(comparison: Comparison, record: ComparisonRecord) -> dict[str, list[Curve]]:
    """The best so far of every seed that has ended, by method."""
    curves: dict[str, list[Curve]] = {}
    for cell in comparison.cells:
        if not cell.by_start and cell.name in record.outcomes:
            outcome = record.outcomes[cell.name]
            moments = np.asarray(getattr(outcome, comparison.axis), dtype=np.float64)
            curves.setdefault(cell.method.name, []).append((moments, np.asarray(outcome.best, dtype=np.float64)))
    return curves


def _write_markdown(folder: Path, comparison: Comparison, record: ComparisonRecord, has_picture: bool) -> None:
    """Writes the tables, the picture's place and what is missing as ``comparison.md``."""
    lines = [f"# {record.name}: methods compared", "", _heading(comparison), ""]
    for title, head, body, best in _tables(comparison, record):
        lines += [f"{title}:", "", _line(head), _line(["---"] * len(head))]
        lines += [
            _line([f"**{cell}**" if (number, at) in best else cell for at, cell in enumerate(cells)])
            for number, cells in enumerate(body)
        ]
        lines.append("")
    if has_picture:
        lines += [f"![Best so far against what was spent]({PICTURE})", ""]
    lines += [f"{line}  " for line in _remarks(comparison, record)]
    with replacing(folder / MARKDOWN) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


_Written = tuple[str, list[str], list[list[str]], set[tuple[int, int]]]
"""A table: its title, its head, its rows, and which cells are the best of their columns."""


def _tables(comparison: Comparison, record: ComparisonRecord) -> Iterator[_Written]:
    rows = rows_of(comparison, record.outcomes)
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    course = [name for name in names if name.startswith(BEST_AT)]
    measures = [name for name in names if name not in (*course, STEPS, SECONDS)]
    title = "the network that each method hands over, mean of seeds ± standard deviation"
    yield _methods(comparison, record, rows, title, measures)
    title = f"best {_words(record.metric)} so far, at shares of the budget, and what was spent"
    yield _methods(comparison, record, rows, title, [*course, STEPS, SECONDS])
    starts = starts_rows_of(comparison, record.outcomes)
    if starts:
        yield _starts(starts)


def _methods(
    comparison: Comparison, record: ComparisonRecord, rows: Sequence[Row], title: str, names: Sequence[str]
) -> _Written:
    body, best = [], set()
    for row in rows:
        cells = [_cell(row.columns.get(name, Averaged(None)), name) for name in names]
        body.append([row.method, *cells, f"{row.seeds} of {comparison.settings.seeds}"])
    for at, name in enumerate(names, start=1):
        if name not in (STEPS, SECONDS):
            means = [row.columns[name].mean if name in row.columns else None for row in rows]
            mode = record.mode if name.startswith(BEST_AT) else mode_of(name)
            best |= {(number, at) for number in _best(means, mode)}
    return title, ["method", *names, "seeds"], body, best


def _starts(rows: Sequence[StartsRow]) -> _Written:
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    body, best = [], set()
    for row in rows:
        values = [value for name in names for value in row.columns.get(name, (math.nan, math.nan))]
        body.append([row.method, *map(_number, values), str(row.starts)])
    for at, name in enumerate(names):
        for part in (0, 1):
            values = [row.columns.get(name, (math.nan, math.nan))[part] for row in rows]
            best |= {(number, 2 * at + part + 1) for number in _best(values, mode_of(name))}
    head = [title for name in names for title in (f"{name} median", f"{name} {_WORST}")]
    return "from the same random starts, one trial each", ["method", *head, "starts"], body, best


def _remarks(comparison: Comparison, record: ComparisonRecord) -> list[str]:
    lacking = missing(comparison, record)
    there = len(comparison.cells) - len(lacking)
    seconds = sum(outcome.clock for outcome in record.outcomes.values())
    lines = [f"{there} of {len(comparison.cells)} sweeps have ended, in {duration(seconds)}"]
    return [*comparison.notes, *lines, *(f"missing {line}" for line in lacking)]


def _heading(comparison: Comparison) -> str:
    settings = comparison.settings
    budget = (
        f"{settings.steps:,} training steps of all networks"
        if settings.steps is not None
        else f"{settings.seconds:g} seconds"
    )
    return (
        f"Each method has {budget} per seed; a trial has {comparison.length:,} training steps. The network that a"
        " method hands over is the best of all its trials on the validation split."
    )


def _best(values: Sequence[float | None], mode: str) -> Iterator[int]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(values) < 2 or not known:
        return
    best = min(known) if mode == "min" else max(known)
    yield from (number for number, value in enumerate(values) if value == best)


def _cell(averaged: Averaged, name: str) -> str:
    return averaged.written(0) if name in (STEPS, SECONDS) else averaged.written()


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "-"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
