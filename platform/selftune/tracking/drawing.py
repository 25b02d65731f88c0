"""How figures look: one style, sizes, titles, scales; the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
COLOURS = (
    "#3366b0",
    "#d2691e",
    "#2a8f82",
    "#8a5fb5",
    "#c0425a",
    "#80852a",
)  # told apart by colour-blind eyes
PAPER = "#fefefe"
LEVELS = ("#123f8c", "#3a76c4", "#79a8dc", "#aec9e8", "#d3dfee")  # from the best fifth to the worst
LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest value
SMALL, WIDE, NARROW = (3.7, 2.25), (10.0, 3.0), (3.7, 2.6)  # inches
_CHARACTER, _ENTRY = 0.063, 0.31  # inches of a letter, and of an entry of a legend beside its letters
_DIGIT = 0.072  # inches
STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.3,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "selftune",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelsize": 8,
    "xtick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelsize": 8,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Plot:
    """A plot: ``name`` serves as a file name, ``title`` says in words what is shown.

    A wide one comes a second time as ``narrow``, for screens on which its letters would be too small to read.
    """

    name: str
    title: str
    svg: str
    narrow: str = ""

    @property
    def wide(self) -> bool:
        return bool(self.narrow)


def wide_plot(name: str, title: str, unit: str, draw: Callable[[Axes], None]) -> Plot:
    wide, narrow = (drawn(size, title, unit, draw) for size in (WIDE, NARROW))
    return Plot(name, title.lower(), wide, narrow)


def drawn(size: tuple[float, float], title: str, unit: str, draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = new_figure(size, title, "", unit)
        draw(axes)
        return svg_of(figure)


def new_figure(size: tuple[float, float], title: str, note: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size)
    FigureCanvasSVG(figure)
    width, height = size
    top = 0.46
    axes = figure.add_axes((0.56 / width, 0.44 / height, 1 - 0.7 / width, 1 - (0.5 + top) / height))
    at = 0.08 / width
    figure.text(
        at,
        1 - 0.07 / height,
        shortened(title, int(width * 14)),
        va="top",
        weight="bold",
        size=9.5,
        parse_math=False,
    )
    if note:
        figure.text(at, 1 - 0.27 / height, note, va="top", color=MUTED, size=8, parse_math=False)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_axisbelow(True)
    return figure, axes


def draw_line(axes: Axes, steps: Any, values: Any, colour: str, label: str) -> None:
    marker = "o" if len(steps) == 1 else None
    if len(steps) == 1:
        axes.set_xticks(steps)
    axes.plot(steps, values, marker=marker, color=colour, markersize=5, label=label or "_")
    if len(steps) > 1 and np.isfinite(values[-1]):
        axes.plot(steps[-1:], values[-1:], "o", color=colour, markersize=3.2, clip_on=False)


def draw_legend(axes: Axes) -> None:
    # above the axes, where the note of a single line stands, so that it never hides data
    lengths = [_ENTRY + _CHARACTER * len(label) for label in axes.get_legend_handles_labels()[1]]
    room = _inches(axes)[0] - 0.6
    columns = next((n for n in (3, 2) if min(n, len(lengths)) * max(lengths) <= room or sum(lengths) <= room), 1)
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        columnspacing=1,
        borderaxespad=0,
        handletextpad=0.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    more = math.ceil(len(lengths) / columns) - 1
    box, height = axes.get_position(), _inches(axes)[1]
    axes.set_position((box.x0, box.y0, box.width, box.height - 0.16 * more / height))


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height of the figure around."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    return float(width), float(height)


def set_scale(axes: Axes, values: Any, logarithmic_from: float = LOGARITHMIC_FROM) -> None:
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    if low > 0 and high / low >= logarithmic_from:
        axes.set_yscale("log")
        within_a_decade_or_two = high / low < 200
        subs = (1.0, 2.0, 5.0) if within_a_decade_or_two else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: logarithmic(value)))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.5g}".replace("-", "\N{MINUS SIGN}"))
        )


def logarithmic(value: float) -> str:
    exponent = np.log10(value)
    if -5 < exponent < 5 or exponent != round(exponent):
        return f"{value:.4g}"
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.nan)


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length // 2] + "…" + text[1 - length // 2 :]


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", name).strip("_.")[:60] or "hyperparameter"


def _fit(figure: Figure) -> None:
    """Makes room for what stands beside the axes: the reader's font is not known here, so as for a wide one."""
    width = figure.get_figwidth()
    for axes in figure.axes:
        box = axes.get_position()
        y, x = ([label.get_text() for label in axis.get_ticklabels()] for axis in (axes.yaxis, axes.xaxis))
        beside = 0.16 + _DIGIT * max(map(len, y), default=0) + (0.2 if axes.get_ylabel() else 0)
        left = max(0.56, beside)
        right = max(0.14, 0.04 + _DIGIT * len(x[-1]) / 2 if x else 0)
        axes.set_position((left / width, box.y0, 1 - (left + right) / width, box.height))


def svg_of(figure: Figure) -> str:
    _fit(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return small(buffer.getvalue())


_MARKS = re.compile(r"<g([^>]*)>\n((?:\s*<use [^>]*/>\n)+)")
_PLACES = re.compile(r' (?:d|x|y)="[^"]*"')


def small(svg: str) -> str:
    """The same picture in about half the bytes: places in hundredths of a point, one style for many marks alike.

    >>> print(small('<g>\\n <use x="1.23456" style="fill: red"/>\\n <use x="2" style="fill: red"/>\\n</g>'))
    <g style="fill: red">
    <use x="1.23"/>
    <use x="2"/>
    </g>
    """
    rounded = _PLACES.sub(lambda found: re.sub(r"\d+\.\d{3,}", _hundredths, found[0]), svg)
    return _MARKS.sub(_with_one_style, rounded)


def _hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _with_one_style(group: re.Match[str]) -> str:
    attributes, marks = group[1], re.sub(r"^\s+", "", group[2], flags=re.MULTILINE)
    styles = set(re.findall(r' style="[^"]*"', marks))
    if len(styles) != 1 or "style=" in attributes or marks.count(" style=") != marks.count("<use "):
        return group[0]
    (style,) = styles
    return f"<g{attributes}{style}>\n{marks.replace(style, '')}"
