"""Rules that say without a search where a hyperparameter starts: what ``start: auto`` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

AUTO: Final = "auto"
"""What stands for the value of the rule, in study files and as ``Tune("auto")``."""


@dataclass(frozen=True)
class StartRule:
    """Where a hyperparameter starts, as somebody has found it once for all.

    Args:
        rule: a function of what is known before training (``selftune.lower_level.start_values.Setup``), which
            raises a ``ValueError`` of one sentence where it does not apply; or one number for all.
        source: title, arXiv id and place, or, honestly, that it is a plain default.

    >>> StartRule(0.1, "Rethinking the Inception Architecture for Computer Vision (1512.00567)").value(None)
    0.1
    """

    rule: Callable[[Any], float] | float
    source: str

    def value(self, setup: Any) -> float:
        """What it gives.

        Raises:
            ValueError: one sentence, if it does not apply.
        """
        return self.rule(setup) if callable(self.rule) else self.rule
