"""Plots of a sweep as SVG: the best so far, parallel coordinates, learning curves, the metric by each key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from selftune.tracking.drawing import (
    COLOURS,
    INK,
    LEVELS,
    MUTED,
    PAPER,
    SMALL,
    STYLE,
    Plot,
    draw_legend,
    finite,
    new_figure,
    set_scale,
    shortened,
    slug,
    svg_of,
    wide_plot,
)
from selftune.tracking.strokes import Strokes
from selftune.tracking.swept_axis import SweptAxis, axis_of, metric_axis
from selftune.tracking.swept_values import short_names
from selftune.tracking.trials import Trials

MAXIMUM_AXES = 10  # side by side; of more keys the most important ones are drawn
MAXIMUM_PANELS = 24
_ENDS = {"finished": "o", "stopped": "x", "failed": "X", "running": ">", "paused": "|"}
"""How the end of a learning curve is marked, by status."""


def levels(trials: Trials) -> dict[int, int]:
    """Of each trial with a value the fifth that it is in, 0 for the best.

    Ranks and not values, so that a trial that went astray does not make all others look alike.
    """
    ranked = [trial.number for trial in trials.ranked() if trial.number in trials.at_best]
    return {number: rank * len(LEVELS) // len(ranked) for rank, number in enumerate(ranked)}


def best_so_far(trials: Trials) -> Plot:
    """The best value of the metric that any trial had met against the training steps of all networks."""
    best = trials.best_so_far()
    metric = trials.settings.metric.replace("_", " ")
    each = trials.best_of_each()

    def draw(axes: Axes) -> None:
        axes.plot(
            each.spent, each.value, "o", ms=3, color=LEVELS[2], mec="none", label="best of each trial", zorder=2
        )
        steps = [*best.spent, max(trials.spent, int(best.spent[-1]))]
        values = [*best.value, best.value[-1]]
        axes.plot(steps, values, drawstyle="steps-post", color=COLOURS[0], label="best so far", zorder=3)
        label = f"{best.value[-1]:.4g}, trial {best.number[-1]}"
        axes.plot(steps[-2:-1], values[-1:], "o", ms=6, mfc="none", mec=COLOURS[1], mew=1.3, label=label, zorder=4)
        draw_legend(axes)
        set_scale(axes, np.array([*values, *each.value]))
        axes.set_ylabel(metric)

    return wide_plot("best-so-far", f"Best {metric} so far", "training steps of all networks", draw)


def learning_curves(trials: Trials) -> Plot:
    """The metric of every trial by its training step; how a curve ends says what became of the trial."""
    metric = trials.settings.metric
    level = levels(trials)
    winner = trials.winner
    curves = {number: one for number, one in trials.curves.items() if metric in one.measures}
    order = sorted(curves, key=lambda number: -level.get(number, len(LEVELS)))  # the best are drawn last
    found = {trials.last[number].status for number in order}

    def draw(axes: Axes) -> None:
        lines, copies, ends = Strokes(), Strokes(), Strokes()
        for number in order:
            curve, status = curves[number], trials.last[number].status
            is_winner = winner is not None and number == winner.number
            colour = COLOURS[1] if is_winner else LEVELS[level.get(number, len(LEVELS) - 1)]
            values, steps = finite(curve.measures[metric]), curve.training_step
            lines.add((colour, is_winner), steps, values)
            copies.add(colour, steps[list(curve.copied)], values[list(curve.copied)])
            ends.add((colour, _ENDS[status]), steps[-1:], values[-1:])
        for (colour, is_winner), stroke in lines:
            axes.plot(*stroke, color=colour, lw=1.8 if is_winner else 0.9, zorder=3 if is_winner else 2)
        for colour, stroke in copies:
            axes.plot(*stroke, "|", ms=7, color=colour, zorder=3)
        for (colour, mark), stroke in ends:
            axes.plot(*stroke, mark, ms=4, color=colour, zorder=3)
        if winner is not None:
            axes.plot([], [], color=COLOURS[1], label=f"trial {winner.number}, the best")
        for status in [one for one in _ENDS if one in found]:
            axes.plot([], [], _ENDS[status], ms=4, color=MUTED, label=status)
        draw_legend(axes)
        every = [curve.measures[metric] for curve in curves.values()]
        set_scale(axes, np.concatenate([*every, np.empty(0)]))
        axes.set_ylabel(metric.replace("_", " "))

    return wide_plot("learning-curves", "Learning curves", "training step", draw)


def parallel_coordinates(trials: Trials, keys: Sequence[str]) -> Plot:
    """A line per trial through what it drew and what came out; the colour says how good it is.

    Args:
        keys: swept keys, one axis each, the metric's after them.
    """
    met, level = trials.at_best, levels(trials)
    records = sorted(met.values(), key=lambda record: -level[record.number])  # the best are drawn last
    names = short_names(list(trials.space.keys))
    labels = dict(zip(trials.space.keys, names, strict=True))
    axes_of = [axis_of(trials.space[key], [one.values.get(key) for one in records]) for key in keys]
    axes_of.append(metric_axis([one.best or 0.0 for one in records]))
    titles = [*(labels[key] for key in keys), trials.settings.metric]
    places = [
        [
            *(axis.place(one.values.get(key)) for axis, key in zip(axes_of, keys, strict=False)),
            axes_of[-1].place(one.best),
        ]
        for one in records
    ]
    winner = trials.winner
    colours = [LEVELS[level[one.number]] for one in records]
    is_winner = [winner is not None and one.number == winner.number for one in records]
    lines = list(zip(places, colours, is_winner, strict=True))
    lines.sort(key=lambda line: line[2])
    title = "What trials drew, and what came out"
    return Plot(
        "parallel-coordinates",
        title.lower(),
        _upright(title, axes_of, titles, lines),
        _lying(title, axes_of, titles, lines),
    )


_Line = tuple[list[float], str, bool]  # places on the axes, colour, whether it is the winner's


def _upright(title: str, axes_of: list[SweptAxis], titles: list[str], lines: list[_Line]) -> str:
    width = 10.0
    room = 13 * width / len(titles)  # characters of a title
    with mpl.rc_context(STYLE):
        figure, axes = new_figure((width, 3.9), title, "", "")
        _draw_paths(axes, ((np.arange(len(places)), places, colour, best) for places, colour, best in lines))
        for at, (axis, name) in enumerate(zip(axes_of, titles, strict=True)):
            axes.plot([at, at], [0, 1], color=MUTED, lw=0.8, zorder=4)
            axes.text(at, 1.07, shortened(name, int(room)), ha="center", color=INK, size=8, parse_math=False)
            for place, text in axis.ticks:
                axes.text(at + 0.02, place, shortened(text, int(room * 0.7)), **_TICK, ha="left")
        _bare(axes, bottom=0.1 / 3.9)
        axes.set_xlim(-0.25, len(titles) - 0.45)
        axes.set_ylim(-0.2 if any(axis.has_gap for axis in axes_of) else -0.06, 1.12)
        return svg_of(figure)


def _lying(title: str, axes_of: list[SweptAxis], titles: list[str], lines: list[_Line]) -> str:
    """The same with an axis below the other, for narrow screens."""
    with mpl.rc_context(STYLE):
        height = 0.6 + 0.62 * len(titles)
        figure, axes = new_figure((3.7, height), title, "", "")
        _draw_paths(axes, ((places, -np.arange(len(places)), colour, best) for places, colour, best in lines))
        for at, (axis, name) in enumerate(zip(axes_of, titles, strict=True)):
            axes.plot([0, 1], [-at, -at], color=MUTED, lw=0.8, zorder=4)
            tick = _TICK | {"va": "top"}
            axes.text(0, 0.12 - at, shortened(name, 40), **(_TICK | {"va": "bottom", "color": INK}), ha="left")
            taken = -1.0
            for place, text in axis.ticks:
                half = 0.014 * len(text)
                if place - half > taken:
                    axes.text(place, -0.08 - at, shortened(text, 12), **tick, ha="center")
                    taken = place + half
        _bare(axes, bottom=0.1 / height)
        axes.set_ylim(-len(titles) + 0.55, 0.4)
        axes.set_xlim(-0.25 if any(axis.has_gap for axis in axes_of) else -0.08, 1.08)
        return svg_of(figure)


_TICK: dict[str, Any] = {
    "size": 7.5,
    "color": MUTED,
    "va": "center",
    "parse_math": False,
    "zorder": 5,
    "bbox": {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.8},
}


def _draw_paths(axes: Axes, paths: Iterable[tuple[Any, Any, str, bool]]) -> None:
    """Lines with their colours, and whether each is the winner's."""
    strokes = Strokes()
    for x, y, colour, is_winner in paths:
        strokes.add((colour, is_winner), x, y)
    for (colour, is_winner), stroke in strokes:
        if is_winner:
            axes.plot(*stroke, color=COLOURS[1], lw=2.2, marker="o", ms=3.5, zorder=3)
        else:
            axes.plot(*stroke, color=colour, lw=1.0, alpha=0.85, zorder=2)


def _bare(axes: Axes, bottom: float) -> None:
    """Without frame and ticks of its own, down to ``bottom``, a share of the figure."""
    box = axes.get_position()
    axes.set_position((box.x0, bottom, box.width, box.y1 - bottom))
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(NullLocator())


def slices(trials: Trials, keys: Sequence[str]) -> list[Plot]:
    """Of each key a panel: what trials drew, and the best value of the metric that each of them met."""
    met, level = trials.at_best, levels(trials)
    records = sorted(met.values(), key=lambda record: -level[record.number])
    labels = dict(zip(trials.space.keys, short_names(list(trials.space.keys)), strict=True))
    plots = []
    for number, key in enumerate(keys[:MAXIMUM_PANELS]):
        there = [one for one in records if key in one.values]
        axis = axis_of(trials.space[key], [one.values[key] for one in there])
        with mpl.rc_context(STYLE):
            figure, axes = new_figure(SMALL, labels[key], "", "")
            points = Strokes()
            for one in there:
                mark = "x" if trials.last[one.number].status in ("stopped", "failed") else "o"
                points.add((LEVELS[level[one.number]], mark), [axis.place(one.values[key])], [one.best or 0.0])
            for (colour, mark), stroke in points:
                axes.plot(*stroke, mark, ms=4.5, color=colour, zorder=2)
            winner = trials.winner
            if winner is not None and key in winner.values:
                place = axis.place(winner.values[key])
                axes.plot([place], [winner.best or 0.0], "o", ms=8, mfc="none", mec=COLOURS[1], mew=1.3, zorder=3)
            set_scale(axes, np.array([one.best for one in there], dtype=np.float64))
            axes.set_xlim(-0.05, 1.05)
            ticks = axis.spaced(6)
            axes.xaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
            texts = dict(ticks)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _, texts=texts: texts.get(place, "")))
            for text in axes.get_xticklabels():
                text.set_parse_math(False)
            plots.append(Plot(f"slice-{number + 1:02d}-{slug(key)}", f"the metric by {key}", svg_of(figure)))
    return plots


def ordered_keys(trials: Trials, shares: dict[str, float]) -> list[str]:
    """The swept keys that trials have, the most important ones first, as far as that is known."""
    present = [key for key in trials.space.keys if any(key in one.values for one in trials.at_best.values())]
    return sorted(present, key=lambda key: -shares.get(key, 0.0))
