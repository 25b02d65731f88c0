"""The picture of a comparison: the best value so far against what was spent, a line per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from selftune.shapes import Float
from selftune.tracking.drawing import COLOURS, Plot, draw_legend, draw_line, drawn, set_scale

Curve = tuple[Float[np.ndarray, "moments"], Float[np.ndarray, "moments"]]
"""What was spent at each moment when the best value became better, and that value."""

_POINTS = 400
_SIZE = (8.0, 4.4)  # inches
_LOGARITHMIC_FROM = 3.0  # ratio of the largest to the smallest value: the best methods are close to each other
_EARLY = 0.25  # share of the budget whose values may lie outside of the picture
_STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")  # once the colours are used up


def comparison_plot(
    curves: Mapping[str, Sequence[Curve]],
    *,
    budget: float,
    metric: str,
    mode: Literal["min", "max"],
    unit: str,
) -> Plot:
    """Mean of the seeds of each method, with a band of one standard deviation to both sides.

    A line begins where every seed has a value.

    Args:
        curves: of each seed, by method; a method without any is left out.
        budget: to which lines go.
        metric, mode: what is best.
        unit: of the budget.

    >>> curve = (np.array([10.0, 30.0]), np.array([0.5, 0.4]))
    >>> plot = comparison_plot({"tpe": [curve]}, budget=40, metric="validation_loss", mode="min", unit="steps")
    >>> plot.name, "tpe" in plot.svg
    ('best-so-far', True)
    """
    spent = np.linspace(0.0, budget, _POINTS + 1)[1:]
    found = {method: np.stack([_at(curve, spent) for curve in own]) for method, own in curves.items() if own}

    def draw(axes: Axes) -> None:
        for number, (method, values) in enumerate(found.items()):
            colour = COLOURS[number % len(COLOURS)]
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1 if len(values) > 1 else 0)
            if len(values) > 1:
                axes.fill_between(spent, mean - spread, mean + spread, color=colour, alpha=0.13, linewidth=0)
            before = len(axes.lines)
            draw_line(axes, spent, mean, colour, method)
            axes.lines[before].set_linestyle(_STYLES[number // len(COLOURS) % len(_STYLES)])
        draw_legend(axes)
        late = [values.mean(axis=0)[spent > _EARLY * budget] for values in found.values()]
        seen = np.concatenate([*late, np.empty(0)])
        set_scale(axes, seen, _LOGARITHMIC_FROM)
        _look_at(axes, seen[np.isfinite(seen)])
        axes.set_ylabel(f"best {metric.replace('_', ' ')} so far")

    title = "Best so far against the budget"
    return Plot("best-so-far", title.lower(), drawn(_SIZE, title, unit, draw))


def _at(curve: Curve, spent: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
    """The best value at each point of the budget; NaN before there is one."""
    moments, values = curve
    index = np.searchsorted(moments, spent, side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)] if len(values) else np.nan, np.nan)


def _look_at(axes: Axes, seen: Float[np.ndarray, "values"]) -> None:
    """Leaves out what all methods pass through at the beginning, which would squeeze the rest."""
    if seen.size:
        low, high = float(seen.min()), float(seen.max())
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
        axes.set_ylim(low / 1.05 if axes.get_yscale() == "log" else low - margin, high + margin)
