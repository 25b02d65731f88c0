"""Searchers: what draws the values of trials. All but random and grid learn from the trials before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True)
class RandomSearch:
    """Every trial is drawn independently of the others."""


@dataclass(frozen=True)
class GridSearch:
    """All combinations of ``points`` values per key, evenly spaced; of a choice all options."""

    points: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.points < 1:
            raise SettingError("points", f"must be at least 1, got {self.points}")


@dataclass(frozen=True)
class QuasiRandomSearch:
    """A scrambled Sobol sequence, which covers the space more evenly than random draws."""


@dataclass(frozen=True)
class _Learning:
    startup_trials: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        if self.startup_trials < 1:
            raise SettingError("startup_trials", f"must be at least 1, got {self.startup_trials}")


@dataclass(frozen=True)
class TPESearch(_Learning):
    """Tree-structured Parzen estimator; its first ``startup_trials`` are random."""

    multivariate: bool = False


@dataclass(frozen=True)
class GPSearch(_Learning):
    """A Gaussian process; its first ``startup_trials`` are random."""


@dataclass(frozen=True)
class CmaEsSearch(_Learning):
    """CMA-ES, for at least two numbers; choices are drawn at random, and so are its first ``startup_trials``."""

    startup_trials: int = 1


SEARCHERS: dict[str, type[Any]] = {
    "random": RandomSearch,
    "grid": GridSearch,
    "quasi-random": QuasiRandomSearch,
    "tpe": TPESearch,
    "gp": GPSearch,
    "cmaes": CmaEsSearch,
}
"""Settings of searchers, by the name in a study file."""
