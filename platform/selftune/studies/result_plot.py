"""A figure of what hyperparameters did in one run or in several, as of more seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from selftune.errors import SettingError
from selftune.studies.course import Course
from selftune.studies.rows import MAXIMUM_ROWS, grouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_PANEL = (3.6, 2.3)  # inches
_LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest value


def plot_courses(courses: Sequence[Course]) -> Figure:
    """One panel per hyperparameter: a line, or the median of several runs with the range that they span.

    Args:
        courses: of the same hyperparameters.

    Raises:
        SettingError: if matplotlib is not installed, or the courses are of different hyperparameters.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise SettingError("plot", "needs the package matplotlib; install it with pip") from error

    first = courses[0]
    for other in courses[1:]:
        if (other.names, other.unit) != (first.names, first.unit):
            raise SettingError("plot", "draws results of the same hyperparameters; these differ in theirs")
    steps = np.unique(np.concatenate([course.steps for course in courses]))
    runs = np.stack([_at(course, steps) for course in courses])  # (run, step, hyperparameter)
    groups = list(grouped(first.names).items())[:MAXIMUM_ROWS]
    columns = min(_COLUMNS, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, panels = pyplot.subplots(
        rows,
        columns,
        figsize=(columns * _PANEL[0], rows * _PANEL[1]),
        squeeze=False,
        layout="constrained",  # nothing that is written is cut off
    )
    for panel, (name, index) in zip(panels.flat, groups, strict=False):
        series = runs[:, :, index].mean(axis=2)
        middle = np.median(series, axis=0)
        if len(courses) > 1:
            low, high = series.min(axis=0), series.max(axis=0)
            panel.fill_between(steps, low, high, alpha=0.25, linewidth=0, label=f"range of {len(courses)} runs")
            panel.plot(steps, middle, label="median")
        else:
            panel.plot(steps, middle)
        if series.min() > 0 and series.max() / series.min() >= _LOGARITHMIC_FROM:
            panel.set_yscale("log")
        panel.set_title(name, fontsize="medium", parse_math=False)
        panel.set_xlabel(first.unit)
    for panel in panels.flat[len(groups) :]:
        panel.set_axis_off()
    if len(courses) > 1:
        panels.flat[0].legend(fontsize="small")
    return figure


def _at(course: Course, steps: np.ndarray) -> np.ndarray:
    """The values in force at steps; the last ones are held where a run was shorter."""
    return course.values[np.searchsorted(course.steps, steps, side="right") - 1]
