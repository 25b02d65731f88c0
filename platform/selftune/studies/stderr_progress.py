"""Progress of a call in Python: where somebody looks, on stderr, and with rich only where it is installed."""

from __future__ import annotations

import sys
from functools import partial

from selftune.methods import Budget
from selftune.studies.progress import Progress
from selftune.studies.strategies import Strategy


def progress_on_stderr(
    wanted: bool | None, title: str, budget: Budget, strategy: type[Strategy]
) -> Progress | None:
    """A live display on a terminal, lines elsewhere; None where nothing is to be shown.

    Args:
        wanted: None shows it where somebody looks: stderr is a terminal, or this is a notebook.
        strategy: knows what there is to show.

    >>> from selftune.studies.strategies import NetworkStrategy
    >>> progress_on_stderr(False, "tune", Budget(steps=10), NetworkStrategy) is None
    True
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (_in_notebook() or terminal if wanted is None else wanted):
        return None
    if terminal:
        try:
            from rich.console import Console
        except ModuleNotFoundError:
            pass  # lines do
        else:
            return strategy.display(Console(stderr=True), title, budget)
    say = partial(print, file=sys.stderr, flush=True)
    return strategy.lines(say, title, budget)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules
