"""Progress of a call in Python: where somebody looks, on stderr, and with rich only where it is installed."""

from __future__ import annotations

import sys
from functools import partial

from selftune.methods import Budget
from selftune.studies.progress import Progress
from selftune.studies.smooth_progress import SmoothProgress


def progress_on_stderr(wanted: bool | None, title: str, budget: Budget, smooth: bool = False) -> Progress | None:
    """A live display on a terminal, lines elsewhere; None where nothing is to be shown.

    Args:
        wanted: None shows it where somebody looks: stderr is a terminal, or this is a notebook.
        smooth: whether the method solves its lower level instead of training a network.

    >>> progress_on_stderr(False, "tune", Budget(steps=10)) is None
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
            from selftune.studies.display import Display
            from selftune.studies.smooth_display import SmoothDisplay

            return (SmoothDisplay if smooth else Display)(Console(stderr=True), title, budget)
    say = partial(print, file=sys.stderr, flush=True)
    return (SmoothProgress if smooth else Progress)(say, title, budget)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules
