"""Plots of a trajectory as SVG: one small figure per idea, the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from selftune.shapes import Float, Int
from selftune.tracking.points import groups_of
from selftune.tracking.trajectory import Trajectory

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
COLOURS = (
    "#3366b0",
    "#d2691e",
    "#2a8f82",
    "#8a5fb5",
    "#c0425a",
    "#80852a",
)  # told apart by colour-blind eyes
MAXIMUM_PANELS = 24  # of one kind; with more hyperparameters, panels show groups
MAXIMUM_LINES = len(COLOURS)  # in one panel; more members become a band
TRAINING_STEP, UPPER_STEP = "training step", "upper step"
LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest value

_SMALL, _WIDE, _NARROW = (3.7, 2.25), (10.0, 3.0), (3.7, 2.6)  # inches
_CHARACTER, _ENTRY = 0.063, 0.31  # inches of a letter, and of an entry of a legend beside its letters
_DIGIT = 0.072  # inches
_STYLE: Any = {
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


def grouped(names: Sequence[str]) -> dict[str, list[int]]:
    """Columns by what one panel shows: each name, else names without part, else regularizers, else all.

    >>> list(grouped([f"weight_decay.strength[{i}]" for i in range(100)]))
    ['weight_decay.strength']
    """
    by_name = {name: [index] for index, name in enumerate(names)}
    by_regularizer: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_regularizer.setdefault(name.split(".")[0], []).append(index)
    for groups in (by_name, groups_of(names), by_regularizer):
        if len(groups) <= MAXIMUM_PANELS:
            return groups
    return {"all hyperparameters": list(range(len(names)))}


def losses(trajectory: Trajectory) -> Plot:
    """Training and validation loss, with the lowest validation loss marked."""
    steps, validation = trajectory.training_step, _finite(trajectory.validation_loss)

    def draw(axes: Axes) -> None:
        _line(axes, steps, _finite(trajectory.training_loss), COLOURS[0], "training (regularized)")
        _line(axes, steps, validation, COLOURS[1], "validation")
        if np.isfinite(validation).any():
            best = int(np.nanargmin(validation))
            label = f"lowest validation loss: {validation[best]:.4g} at step {steps[best]:,}"
            axes.plot(steps[best], validation[best], "o", ms=6, mfc="none", mec=COLOURS[1], mew=1.3, label=label)
        _legend(axes)
        _scale(axes, np.concatenate([trajectory.training_loss, validation]))
        axes.set_ylabel("loss")

    return _wide("losses", "Training and validation loss", TRAINING_STEP, draw)


def schedules(trajectory: Trajectory) -> list[Plot]:
    """The constrained values of the hyperparameters, one panel per hyperparameter or group."""
    return _panels(trajectory, trajectory.values, "schedule", grouped(trajectory.names))


def scales(trajectory: Trajectory) -> list[Plot]:
    """Standard deviations of the perturbation, one panel per group of names."""
    groups = groups_of(trajectory.names)
    groups = groups if len(groups) <= MAXIMUM_PANELS else grouped(trajectory.names)
    return _panels(trajectory, trajectory.scales, "scale", groups)


def hypergradients(trajectory: Trajectory) -> list[Plot]:
    """Hypergradients in the unconstrained space, one panel per group of names, with the zero line."""
    groups = groups_of(trajectory.names)
    groups = groups if len(groups) <= MAXIMUM_PANELS else grouped(trajectory.names)
    return _panels(trajectory, trajectory.hypergradients, "hypergradient", groups, zero=True)


def hypergradient_norm(trajectory: Trajectory) -> Plot:
    """The Euclidean norm of the hypergradient, which falls as the hyperparameters settle."""
    norm = _finite(np.linalg.norm(trajectory.hypergradients, axis=1))

    def draw(axes: Axes) -> None:
        _line(axes, trajectory.training_step, norm, COLOURS[3], "")
        _scale(axes, norm)
        axes.set_ylabel("Euclidean norm")

    return _wide("hypergradient-norm", "Norm of the hypergradient", TRAINING_STEP, draw)


def certificate(trajectory: Trajectory) -> list[Plot]:
    """What a method of smooth problems knows of its steps, one panel per idea."""
    # all of them are sizes, drawn on logarithmic scales: a zero has no place there
    known = {name: np.where(column > 0, column, np.nan) for name, column in trajectory.certificate.items()}
    norm, work = known["hypergradient_norm"], np.diff(trajectory.certificate["work"], prepend=0.0)
    per_step = _curves(trajectory, "work", "Gradients and products per step", {"": work}, wide=False)
    if "error_reached" not in known:  # the lower level is not solved while the method runs
        title, rate = "Norm of the estimated hypergradient", {"": known["inner_rate"]}
        return [
            _curves(trajectory, "hypergradient-norm", title, {"": norm}),
            _curves(trajectory, "inner-rate", "Step of the parameters", rate, wide=False),
            per_step,
        ]
    return [
        _curves(
            trajectory,
            "hypergradient-bound",
            "Norm of the hypergradient and bound of its error",
            {"norm": norm, "error bound": known["hypergradient_bound"]},
        ),
        _curves(
            trajectory,
            "accuracy",
            "Accuracy of the lower level (distance to its solution)",
            {"asked": known["error_asked"], "reached": known["error_reached"]},
        ),
        _curves(trajectory, "step-size", "Step size", {"": known["step"]}, wide=False),
        per_step,
    ]


def measures(trajectory: Trajectory, columns: Mapping[str, Float[np.ndarray, "steps"]], kind: str) -> list[Plot]:
    """One panel per measure of the hyper-steps, at those where it was taken."""
    plots = []
    for number, (name, values) in enumerate(columns.items()):
        taken = np.isfinite(values)
        with mpl.rc_context(_STYLE):
            steps, unit = _axis(trajectory)
            figure, axes = _figure(_SMALL, name.replace("_", " "), "", unit)
            _line(axes, steps[taken], _finite(values[taken]), COLOURS[number % len(COLOURS)], "")
            _scale(axes, _finite(values[taken]))
            plots.append(Plot(f"{kind}-{number + 1:02d}-{_slug(name)}", name, _svg(figure)))
    return plots


def upper_level(trajectory: Trajectory) -> Plot:
    """The upper-level loss after each step, and the largest value that it can truly have."""
    lines = {"upper-level loss": trajectory.validation_loss}
    if "upper_bound" in trajectory.certificate:
        lines["upper bound of its true value"] = trajectory.certificate["upper_bound"]
    return _curves(trajectory, "upper-level-loss", "Upper-level loss", lines)


def _curves(
    trajectory: Trajectory,
    name: str,
    title: str,
    lines: dict[str, Float[np.ndarray, "steps"]],
    wide: bool = True,
) -> Plot:
    steps, unit = _axis(trajectory)
    columns = {label: _finite(values) for label, values in lines.items()}
    shown = {label: values for label, values in columns.items() if np.isfinite(values).any()}

    def draw(axes: Axes) -> None:
        for (label, values), colour in zip(shown.items(), COLOURS, strict=False):
            _line(axes, steps, values, colour, label)
        if len(lines) > 1:
            _legend(axes)
        _scale(axes, np.concatenate([*shown.values(), np.empty(0)]))

    if wide:
        return _wide(name, title, unit, draw)
    return Plot(name, title.lower(), _drawn(_SMALL, title, unit, draw))


def _wide(name: str, title: str, unit: str, draw: Callable[[Axes], None]) -> Plot:
    wide, narrow = (_drawn(size, title, unit, draw) for size in (_WIDE, _NARROW))
    return Plot(name, title.lower(), wide, narrow)


def _drawn(size: tuple[float, float], title: str, unit: str, draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(size, title, "", unit)
        draw(axes)
        return _svg(figure)


def _panels(
    trajectory: Trajectory,
    matrix: Float[np.ndarray, "steps hyperparameters"],
    kind: str,
    groups: dict[str, list[int]],
    zero: bool = False,
) -> list[Plot]:
    steps, unit = _axis(trajectory)
    plots = []
    for number, (name, index) in enumerate(groups.items()):
        columns = _finite(matrix[:, index])
        labels = [_part(trajectory.names[i]) for i in index]
        with mpl.rc_context(_STYLE):
            figure, axes = _figure(_SMALL, _heading(name, len(index)), _note(columns), unit)
            if zero:
                axes.axhline(0.0, color=MUTED, linewidth=0.8)
            if len(index) <= MAXIMUM_LINES:
                for label, column, colour in zip(labels, columns.T, COLOURS, strict=False):
                    _line(axes, steps, column, colour, label if len(index) > 1 else "")
            else:
                _band(axes, steps, columns)
            if len(index) > 1:
                _legend(axes)
            _scale(axes, columns)
            plots.append(Plot(f"{kind}-{number + 1:02d}-{_slug(name)}", f"{kind} of {name}", _svg(figure)))
    return plots


def _axis(trajectory: Trajectory) -> tuple[Int[np.ndarray, "steps"], str]:
    """What figures have on their horizontal axis, and its label."""
    if trajectory.solves:
        return trajectory.hyper_step + 1, UPPER_STEP
    return trajectory.training_step, TRAINING_STEP


def _figure(size: tuple[float, float], title: str, note: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size)
    FigureCanvasSVG(figure)
    width, height = size
    top = 0.46
    axes = figure.add_axes((0.56 / width, 0.44 / height, 1 - 0.7 / width, 1 - (0.5 + top) / height))
    at = 0.08 / width
    figure.text(
        at,
        1 - 0.07 / height,
        _shortened(title, int(width * 14)),
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


def _line(axes: Axes, steps: Any, values: Any, colour: str, label: str) -> None:
    marker = "o" if len(steps) == 1 else None
    if len(steps) == 1:
        axes.set_xticks(steps)
    axes.plot(steps, values, marker=marker, color=colour, markersize=5, label=label or "_")
    if len(steps) > 1 and np.isfinite(values[-1]):
        axes.plot(steps[-1:], values[-1:], "o", color=colour, markersize=3.2, clip_on=False)


def _band(axes: Axes, steps: Any, columns: Any) -> None:
    low, middle, high = (np.nanquantile(columns, q, axis=1) for q in (0.0, 0.5, 1.0))
    inner_low, inner_high = (np.nanquantile(columns, q, axis=1) for q in (0.25, 0.75))
    axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.13, linewidth=0, label="min to max")
    axes.fill_between(steps, inner_low, inner_high, color=COLOURS[0], alpha=0.25, linewidth=0, label="middle half")
    _line(axes, steps, middle, COLOURS[0], f"median of {columns.shape[1]:,}")


def _legend(axes: Axes) -> None:
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


def _scale(axes: Axes, values: Any) -> None:
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    if low > 0 and high / low >= LOGARITHMIC_FROM:
        axes.set_yscale("log")
        within_a_decade_or_two = high / low < 200
        subs = (1.0, 2.0, 5.0) if within_a_decade_or_two else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _logarithmic(value)))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.5g}".replace("-", "\N{MINUS SIGN}"))
        )


def _note(columns: Any) -> str:
    if columns.shape[1] > 1 or not len(columns):
        return ""
    return f"{columns[0, 0]:.4g} \N{RIGHTWARDS ARROW} {columns[-1, 0]:.4g}".replace("-", "\N{MINUS SIGN}")


def _logarithmic(value: float) -> str:
    exponent = np.log10(value)
    if -5 < exponent < 5 or exponent != round(exponent):
        return f"{value:.4g}"
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.nan)


def _heading(name: str, count: int) -> str:
    return name if count == 1 else f"{name} ({count:,})"


def _part(name: str) -> str:
    part = re.search(r"\[(.*)\]$", name)
    return _shortened(part.group(1) if part else name, 18)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length // 2] + "…" + text[1 - length // 2 :]


def _slug(name: str) -> str:
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


def _svg(figure: Figure) -> str:
    _fit(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
