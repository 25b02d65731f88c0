"""How the hypergradients of a team become one: by the mean, or by what some trainers alone cannot mislead."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch

from selftune.errors import SettingError, suggestion
from selftune.fields import check_fields
from selftune.registries.aggregators import Aggregator, aggregators
from selftune.shapes import Float, Tensor

MEAN = "mean_aggregation"
_OF_THE_FAULTY = ("outlier", "offences", "restarts")

Votes = Mapping[int, Sequence[Float[Tensor, "rows _"]]]
"""What the members of a team send: vectors in parts, each of one row, or of several that count alike."""


@dataclass(frozen=True)
class Aggregation:
    """How a team's hypergradients become one, and what becomes of trainers that send nonsense.

    Args:
        name: of an aggregator (``selftune.registries.aggregators``). ``mean_aggregation`` trusts every trainer;
            with any other, a hypergradient that is not finite or far off is outvoted instead of ending its
            trainer.
        settings: those of the aggregator; a study file writes them beside the name.
        outlier: a hypergradient is far off, and its trainer named, from so many times the usual distance from the
            team's median on.
        offences: after so many hyper-steps in a row at which it was outvoted, a trainer is excluded and starts
            again from the network of another one.
        restarts: how often a trainer may start again before it is excluded for good.

    Raises:
        SettingError: if there is no such aggregator or setting, a value is out of its range, or a setting is given
            that the mean does not use.

    >>> Aggregation("krum", {"faulty": 1}).robust
    True
    """

    GATHERS: ClassVar[str] = "settings"
    """The field that takes the keys of a study file that are no fields."""

    name: str = MEAN
    settings: Mapping[str, Any] = field(default_factory=dict)
    outlier: float = 10.0
    offences: int = 3
    restarts: int = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.outlier > 1 and math.isfinite(self.outlier)):
            raise SettingError("outlier", f"must be a number above 1, got {self.outlier:g}")
        for key, low in (("offences", 1), ("restarts", 0)):
            if getattr(self, key) < low:
                raise SettingError(key, f"must be at least {low}, got {getattr(self, key)}")
        if not self.robust:
            defaults = {key: type(self).__dataclass_fields__[key].default for key in _OF_THE_FAULTY}
            given = [*self.settings, *(key for key in _OF_THE_FAULTY if getattr(self, key) != defaults[key])]
            for key in given:
                raise SettingError(key, f"is not for {MEAN}, which trusts every trainer; name another aggregator")
            return
        if self.name not in aggregators:
            raise SettingError(
                "name", f"unknown aggregator {self.name!r}; {suggestion(self.name, aggregators.names())}"
            )
        self.entry.settings(self.settings)

    @property
    def robust(self) -> bool:
        """Whether trainers can be outvoted. The mean needs no catalogue, and is what it always was."""
        return self.name != MEAN

    @cached_property
    def entry(self) -> Aggregator:
        return aggregators[self.name]

    @property
    def faulty(self) -> int:
        """How many may be faulty by the setting of this name; 0 where the aggregator has none."""
        faulty: int = self.entry.settings(self.settings).get("faulty", 0)
        return faulty

    def mistake(self, members: int, size: int = 1) -> SettingError | None:
        """Why a team of so many members cannot be aggregated like this.

        Args:
            size: trainers that are one member together.
        """
        if not self.robust:
            return None
        needed = self.entry.fewest(self.faulty)
        if members >= needed:
            message = self.refusal(members)
            return None if message is None else SettingError("aggregation", message)
        settings = ", ".join(f"{key}: {value}" for key, value in self.settings.items())
        return SettingError(
            "aggregation",
            f"{self.name}{' with ' if settings else ''}{settings} needs at least {needed} {_word(size)}, got"
            f" {members}; set trainers.number to {needed * size} or more, or name another aggregator",
        )

    def refusal(self, members: int, size: int = 1) -> str | None:
        """Why nothing can be made of the hypergradients of so many, however few of them are faulty."""
        if not self.robust:
            return None
        if self.entry.most_faulty(members, self.faulty) is None:
            return f"{self.name} needs at least {self.entry.fewest(0)} {_word(size)}, and {members} are left"
        try:
            self.combined({member: [torch.zeros(1, 1)] for member in range(members)})
        except ValueError as error:
            return str(error)
        return None

    def combined(self, votes: Votes, missing: int = 0) -> list[Float[Tensor, "_"]]:
        """One vector, in the parts that the votes have.

        Args:
            missing: members that are known to be faulty and have no vote.

        Raises:
            ValueError: if too few votes are finite.
        """
        parts = [list(part) for part in zip(*votes.values(), strict=True)]
        if not self.robust:
            return [torch.cat(part).mean(dim=0) for part in parts]
        matrices = [torch.stack([rows.mean(dim=0) for rows in part]) for part in parts]
        finite = int(torch.stack([matrix.isfinite().all(dim=1) for matrix in matrices]).all(dim=0).sum())
        settings = dict(self.settings)
        if "faulty" in {h.name for h in self.entry.hyperparameters}:
            left = max(self.faulty - missing - (len(votes) - finite), 0)
            # the aggregator itself counts those that are not finite
            settings["faulty"] = (self.entry.most_faulty(finite, left) or 0) + len(votes) - finite
        return self.entry.by_parts(matrices, **settings)


def _word(size: int) -> str:
    return "trainers" if size == 1 else f"groups of {size} trainers"
