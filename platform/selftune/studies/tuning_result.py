"""What both results of ``tune`` can show of themselves: a table, a page for notebooks, a DataFrame, a figure."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from selftune.errors import SettingError
from selftune.methods import HyperStep
from selftune.shapes import Float, Int
from selftune.studies.course import Course
from selftune.studies.rows import MAXIMUM_ROWS, grouped, with_spread

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 150, 26  # of a curve in a notebook's table, in pixels


class TuningResult:
    """What results of ``tune`` have in common.

    Attributes:
        hyperparameters: the values at the end, by name.
        trajectory: every hyper-step, in order.
        metrics: measures of what came out.
        spread: their standard deviations, where they are averages over several networks.
    """

    hyperparameters: Mapping[str, float]
    trajectory: Sequence[HyperStep]
    metrics: Mapping[str, float]
    spread: Mapping[str, float] = MappingProxyType({})

    def course(self) -> Course:
        """What the hyperparameters did, from the start to the end."""
        names, end = tuple(self.hyperparameters), list(self.hyperparameters.values())
        rows = [step.hyperparameters.detach().cpu().double().numpy() for step in self.trajectory]
        steps = [self._at(step) for step in self.trajectory]
        return Course(
            names,
            self._unit,
            np.array([0, *steps], dtype=np.int64),
            np.stack([*rows, np.array(end, dtype=np.float64)]),
        )

    _unit = "training step"

    @property
    def _of(self) -> str:
        """What measures at the end are averages over, in words."""
        return ""

    def _at(self, step: HyperStep) -> int:
        return step.training_step

    # Tables -------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        header, *rows = self._table()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in (header, *rows)
        ]
        return "\n".join([*lines, *self._sentences()])

    def _repr_html_(self) -> str:
        header, *rows = self._table()
        course = self.course()
        groups = list(grouped(course.names).values())
        cell = "text-align:right;padding:2px 10px"
        first = "text-align:left;padding:2px 10px"

        def row(tag: str, cells: Sequence[str], curve: str) -> str:
            styled = [
                f'<{tag} style="{cell if number else first}">{html.escape(text)}</{tag}>'
                for number, text in enumerate(cells)
            ]
            return f"<tr>{''.join(styled)}<{tag}>{curve}</{tag}></tr>"

        head = row("th", header, html.escape(f"by {course.unit}"))
        body = [
            row("td", cells, _curve(course.steps, course.values[:, groups[number]].mean(axis=1)))
            if number < MAXIMUM_ROWS
            else row("td", cells, "")
            for number, cells in enumerate(rows)
        ]
        notes = "".join(f"<div>{html.escape(sentence)}</div>" for sentence in self._sentences())
        return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>{notes}"

    def _table(self) -> Iterator[tuple[str, ...]]:
        """Header and rows; many hyperparameters as means of their parts."""
        course, best = self.course(), self._best()
        yield ("hyperparameter", "start", "end", *(["best"] if best is not None else []))
        shown = [course.values[0], course.values[-1]]
        if best is not None:
            shown.append(course.values[best[0]])
        rows = grouped(course.names)
        for label, index in list(rows.items())[:MAXIMUM_ROWS]:
            yield (label, *(f"{values[index].mean():.4g}" for values in shown))
        if len(rows) > MAXIMUM_ROWS:
            yield (f"and {len(rows) - MAXIMUM_ROWS} more", *[""] * len(shown))

    def _best(self) -> tuple[int, str, float] | None:
        """The hyper-step where the metric was best, its name and value; None where there is none."""
        losses = [step.validation_loss for step in self.trajectory]
        known = [loss for loss in losses if math.isfinite(loss)]
        return (losses.index(min(known)), "validation_loss", min(known)) if known else None

    def _sentences(self) -> Iterator[str]:
        best = self._best()
        if best is not None:
            number, metric, value = best
            at = f"{self._unit} {self._at(self.trajectory[number])}"
            yield f"best: where {metric.replace('_', ' ')} was best, {value:.4g} at {at}"
        if self.metrics:
            measures = ", ".join(
                f"{name.replace('_', ' ')} {with_spread(value, self.spread.get(name))}"
                for name, value in self.metrics.items()
            )
            yield f"{', '.join(filter(None, ('at the end', self._of)))}: {measures}"

    # Data and figures ---------------------------------------------------------------------------------

    def to_pandas(self) -> pd.DataFrame:
        """The trajectory, a row per hyper-step, with the columns of ``trajectory.parquet`` (docs/tracking.md).

        Values stand in ``value/NAME``, scales and hypergradients, both unconstrained, in ``scale/NAME`` and
        ``hypergradient/NAME``.

        Raises:
            SettingError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise SettingError("to_pandas", "needs the package pandas; install it with pip") from error

        plain = ("training_step", "seconds", "training_loss", "validation_loss")
        columns: dict[str, list[float]] = {"hyper_step": [step.number for step in self.trajectory]}
        columns |= {name: [getattr(step, name) for step in self.trajectory] for name in plain}
        vectors: dict[str, Callable[[HyperStep], Any]] = {
            "value": lambda step: step.hyperparameters,
            "scale": lambda step: step.scale,
            "hypergradient": lambda step: step.hypergradient,
        }
        for prefix, vector in vectors.items():
            rows = [vector(step).double().tolist() for step in self.trajectory]
            for column, name in enumerate(self.hyperparameters):
                columns[f"{prefix}/{name}"] = [row[column] for row in rows]
        for prefix in ("certificate", "diagnostics"):
            every: list[Mapping[str, float]] = [getattr(step, prefix) for step in self.trajectory]
            for name in dict.fromkeys(name for entries in every for name in entries):
                key = f"{prefix.removesuffix('s')}/{name}"
                columns[key] = [entries.get(name, math.nan) for entries in every]
        return pd.DataFrame(columns)

    def plot(self, *others: TuningResult) -> Figure:
        """Draws what the hyperparameters did; with other results, as of more seeds, their median and range.

        Raises:
            SettingError: if matplotlib is not installed, or another result is one of other hyperparameters.
        """
        from selftune.studies.result_plot import plot_courses

        return plot_courses([result.course() for result in (self, *others)])


def _curve(steps: Int[np.ndarray, "rows"], values: Float[np.ndarray, "rows"]) -> str:
    """A small picture of a series, in the colour of the text around it."""
    there = np.isfinite(values)
    if there.sum() < 2:
        return ""
    x, y = steps[there].astype(np.float64), values[there]
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / (np.ptp(y) or 1.0)
    every = np.unique(np.linspace(0, len(x) - 1, min(len(x), 2 * _WIDTH)).round().astype(int))
    points = " ".join(
        f"{2 + at * (_WIDTH - 4):.1f},{_HEIGHT - 3 - height * (_HEIGHT - 6):.1f}"
        for at, height in zip(x[every], y[every], strict=True)
    )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.3"/></svg>'
    )
