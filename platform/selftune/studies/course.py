"""What hyperparameters did in one run, as tables and plots show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selftune.shapes import Float, Int


@dataclass(frozen=True)
class Course:
    """What hyperparameters did: ``values[i]`` are in force from ``steps[i]`` on, counted from 0 in ``unit``."""

    names: tuple[str, ...]
    unit: str
    steps: Int[np.ndarray, "rows"]
    values: Float[np.ndarray, "rows n"]
