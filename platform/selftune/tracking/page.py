"""What pages of reports are made of: templates, figures in the page's colours, numbers as people read them."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from selftune.storage.files import replacing
from selftune.tracking.drawing import COLOURS, GRID, INK, LEVELS, MUTED, PAPER, Plot

# Inline plots take the page's colours, which differ by day and by night.
_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_COLOURS |= {colour: f"var(--line-{number})" for number, colour in enumerate(COLOURS)}
_COLOURS |= {colour: f"var(--level-{number})" for number, colour in enumerate(LEVELS)}


def write_page(path: Path, template: str, **content: object) -> None:
    """Renders a template of this folder; the page is the old one or the new one.

    Raises:
        OSError: if it cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template(template).render(colours=COLOURS, levels=LEVELS, **content)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _template(name: str) -> str:
    return files("selftune.tracking").joinpath(name).read_text(encoding="utf-8")


def save_plots(folder: Path, saved: Sequence[Plot]) -> None:
    """Writes each plot as a file of its own, and removes those of another time."""
    folder.mkdir(exist_ok=True)
    for stale in set(folder.glob("*.svg")) - {folder / f"{plot.name}.svg" for plot in saved}:
        stale.unlink()
    for plot in saved:
        (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")


def with_figures(sections: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sections of a page, each with the figures of its ``plots`` under ``drawn``."""
    numbers = count(1)
    return [
        section | {"drawn": [inline(plot, next(numbers)) for plot in section["plots"]]} for section in sections
    ]


def inline(plot: Plot, number: int) -> dict[str, Markup]:
    """The figure as a part of the page, and that of a narrow screen where it has one.

    Args:
        number: of the figure on the page.
    """
    narrow = _part_of_page(plot.narrow, f"n{number}", plot.title) if plot.narrow else Markup("")
    return {"whole": _part_of_page(plot.svg, f"f{number}", plot.title), "narrow": narrow}


def _part_of_page(drawn: str, prefix: str, title: str) -> Markup:
    svg = drawn[drawn.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", svg, count=2)
    # one page, many figures: an id must not be taken twice
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    label = html.escape(title, quote=True)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def number_text(value: float | None, sign: str = "") -> str:
    """Four digits; nothing where there is no number."""
    return "" if value is None or math.isnan(value) else f"{value:{sign}.4g}"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "trial"), counted(1200, "trial")
    ('1 trial', '1,200 trials')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def time_text(seconds: float) -> str:
    """Seconds as people say them.

    >>> time_text(75), time_text(3700)
    ('75.0 s', '1 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def text_of(path: Path) -> str:
    """What a file says; nothing where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def breakable(name: str) -> Markup:
    """A hyperparameter's name that may go on in a new line after a dot or an underscore and before its part."""
    return Markup(re.sub(r"(?<=[._])|(?=\[)", "<wbr>", str(escape(name))))
