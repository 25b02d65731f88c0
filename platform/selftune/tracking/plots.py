"""Plots of a trajectory as SVG: one small figure per idea, the same bytes for the same numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from selftune.shapes import Float, Int
from selftune.tracking.drawing import (
    COLOURS,
    MUTED,
    SMALL,
    STYLE,
    Plot,
    draw_legend,
    draw_line,
    drawn,
    finite,
    new_figure,
    set_scale,
    shortened,
    slug,
    svg_of,
    wide_plot,
)
from selftune.tracking.points import groups_of
from selftune.tracking.trajectory import Trajectory

MAXIMUM_PANELS = 24  # of one kind; with more hyperparameters, panels show groups
MAXIMUM_LINES = len(COLOURS)  # in one panel; more members become a band
TRAINING_STEP, UPPER_STEP = "training step", "upper step"


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
    steps, validation = trajectory.training_step, finite(trajectory.validation_loss)

    def draw(axes: Axes) -> None:
        draw_line(axes, steps, finite(trajectory.training_loss), COLOURS[0], "training (regularized)")
        draw_line(axes, steps, validation, COLOURS[1], "validation")
        if np.isfinite(validation).any():
            best = int(np.nanargmin(validation))
            label = f"lowest validation loss: {validation[best]:.4g} at step {steps[best]:,}"
            axes.plot(steps[best], validation[best], "o", ms=6, mfc="none", mec=COLOURS[1], mew=1.3, label=label)
        draw_legend(axes)
        set_scale(axes, np.concatenate([trajectory.training_loss, validation]))
        axes.set_ylabel("loss")

    return wide_plot("losses", "Training and validation loss", TRAINING_STEP, draw)


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
    norm = finite(np.linalg.norm(trajectory.hypergradients, axis=1))

    def draw(axes: Axes) -> None:
        draw_line(axes, trajectory.training_step, norm, COLOURS[3], "")
        set_scale(axes, norm)
        axes.set_ylabel("Euclidean norm")

    return wide_plot("hypergradient-norm", "Norm of the hypergradient", TRAINING_STEP, draw)


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
        with mpl.rc_context(STYLE):
            steps, unit = _axis(trajectory)
            figure, axes = new_figure(SMALL, name.replace("_", " "), "", unit)
            draw_line(axes, steps[taken], finite(values[taken]), COLOURS[number % len(COLOURS)], "")
            set_scale(axes, finite(values[taken]))
            plots.append(Plot(f"{kind}-{number + 1:02d}-{slug(name)}", name, svg_of(figure)))
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
    columns = {label: finite(values) for label, values in lines.items()}
    shown = {label: values for label, values in columns.items() if np.isfinite(values).any()}

    def draw(axes: Axes) -> None:
        for (label, values), colour in zip(shown.items(), COLOURS, strict=False):
            draw_line(axes, steps, values, colour, label)
        if len(lines) > 1:
            draw_legend(axes)
        set_scale(axes, np.concatenate([*shown.values(), np.empty(0)]))

    if wide:
        return wide_plot(name, title, unit, draw)
    return Plot(name, title.lower(), drawn(SMALL, title, unit, draw))


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
        columns = finite(matrix[:, index])
        labels = [_part(trajectory.names[i]) for i in index]
        with mpl.rc_context(STYLE):
            figure, axes = new_figure(SMALL, _heading(name, len(index)), _note(columns), unit)
            if zero:
                axes.axhline(0.0, color=MUTED, linewidth=0.8)
            if len(index) <= MAXIMUM_LINES:
                for label, column, colour in zip(labels, columns.T, COLOURS, strict=False):
                    draw_line(axes, steps, column, colour, label if len(index) > 1 else "")
            else:
                _band(axes, steps, columns)
            if len(index) > 1:
                draw_legend(axes)
            set_scale(axes, columns)
            plots.append(Plot(f"{kind}-{number + 1:02d}-{slug(name)}", f"{kind} of {name}", svg_of(figure)))
    return plots


def _axis(trajectory: Trajectory) -> tuple[Int[np.ndarray, "steps"], str]:
    """What figures have on their horizontal axis, and its label."""
    if trajectory.solves:
        return trajectory.hyper_step + 1, UPPER_STEP
    return trajectory.training_step, TRAINING_STEP


def _band(axes: Axes, steps: Any, columns: Any) -> None:
    low, middle, high = (np.nanquantile(columns, q, axis=1) for q in (0.0, 0.5, 1.0))
    inner_low, inner_high = (np.nanquantile(columns, q, axis=1) for q in (0.25, 0.75))
    axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.13, linewidth=0, label="min to max")
    axes.fill_between(steps, inner_low, inner_high, color=COLOURS[0], alpha=0.25, linewidth=0, label="middle half")
    draw_line(axes, steps, middle, COLOURS[0], f"median of {columns.shape[1]:,}")


def _note(columns: Any) -> str:
    if columns.shape[1] > 1 or not len(columns):
        return ""
    return f"{columns[0, 0]:.4g} \N{RIGHTWARDS ARROW} {columns[-1, 0]:.4g}".replace("-", "\N{MINUS SIGN}")


def _heading(name: str, count: int) -> str:
    return name if count == 1 else f"{name} ({count:,})"


def _part(name: str) -> str:
    part = re.search(r"\[(.*)\]$", name)
    return shortened(part.group(1) if part else name, 18)
