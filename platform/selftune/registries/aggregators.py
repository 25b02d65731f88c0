"""Aggregators: what makes one vector of those of several members, some of whom may be faulty.

The same functions combine gradients of parts of a batch (as regularizers, which
``selftune.regularization.decorators.aggregator`` makes of them), hypergradients of a team's trainers, and
gradients of data-parallel workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selftune.errors import SettingError, suggestion
from selftune.hyperparameters import Hyperparameter
from selftune.registries.reference import Reference
from selftune.registries.registry import Registry
from selftune.shapes import Float, Tensor

Fewest = Callable[[int], int]
"""How many members it takes, by how many of them may be faulty."""
Tolerated = Callable[[int, int], int]
"""How many members may lie, by their number and by the setting ``faulty`` (0 where there is none)."""


class TooFewMembers(ValueError):
    """So few members have sent finite numbers that the aggregator can make nothing of them."""


@dataclass(frozen=True)
class Aggregator:
    """An aggregator as the catalogue knows it; called, it leaves out members that are not finite.

    Attributes:
        function: ``function(members of shape (members, size), **settings) -> (size,)``.
        hyperparameters: its settings, with their domains and defaults.
        optional: names of settings whose 0 stands for what the function does with None.
        fewest: members that it takes.
        tolerates: members that may send anything without taking the result away from the others.
        coordinatewise: whether an entry of the result depends on the same entry of the members alone.
        unit: whether it looks at directions only, so that its result has to be brought to the members' length.

    >>> from selftune.registries.aggregators import aggregators
    >>> members = torch.tensor([[1.0], [1.1], [1.3], [1.9], [torch.nan]])
    >>> aggregators["krum"](members, faulty=1)
    tensor([1.1000])
    >>> aggregators["krum"].tolerated(5, faulty=1)
    1
    """

    name: str
    family: str
    reference: Reference
    function: Callable[..., Tensor]
    hyperparameters: tuple[Hyperparameter, ...]
    optional: frozenset[str]
    fewest: Fewest
    tolerates: Tolerated
    coordinatewise: bool
    unit: bool

    kind = "aggregator"

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All of the settings: those that are given, and the defaults of the others.

        Raises:
            SettingError: for one that there is not, or a value outside of its domain.
        """
        declared = {h.name: h for h in self.hyperparameters}
        for key, value in given.items():
            if key not in declared:
                known = f"; {suggestion(key, declared)}" if declared else ", which has none"
                raise SettingError(key, f"unknown setting of {self.name}{known}")
            if not declared[key].domain.contains(value):
                raise SettingError(key, f"must be {declared[key].domain.describe()}, got {value!r}")
        return {name: given.get(name, h.value) for name, h in declared.items()}

    def tolerated(self, members: int, **settings: Any) -> int:
        """How many of so many members may send anything."""
        return self.tolerates(members, self.settings(settings).get("faulty", 0))

    def most_faulty(self, members: int, faulty: int) -> int | None:
        """The largest number of faulty members, up to ``faulty``, for which there are enough; None for none."""
        return next((f for f in range(faulty, -1, -1) if members >= self.fewest(f)), None)

    def __call__(self, members: Float[Tensor, "members size"], **settings: Any) -> Float[Tensor, "size"]:
        """One vector of those of all members; one that is not finite is left out, and counts as one of the faulty.

        Raises:
            SettingError: for a setting that it does not have.
            TooFewMembers: if too few are finite.
            ValueError: if the function refuses settings for so many.
        """
        return self.by_parts([members], **settings)[0]

    def by_parts(self, parts: Sequence[Float[Tensor, "members _"]], **settings: Any) -> list[Float[Tensor, "_"]]:
        """The same for vectors that come in parts: a member is left out, chosen or weighed as a whole."""
        values = self.settings(settings)
        there = torch.stack([part.isfinite().all(dim=1) for part in parts]).all(dim=0)
        if not bool(there.all()):
            parts = [part[there] for part in parts]
            if "faulty" in values:
                values["faulty"] = max(values["faulty"] - int((~there).sum()), 0)
        count, needed = len(parts[0]), max(self.fewest(values.get("faulty", 0)), 1)
        if count < needed:
            raise TooFewMembers(f"{self.name} needs {needed} members with finite numbers, and {count} have them")
        values = {name: None if name in self.optional and not value else value for name, value in values.items()}
        if self.coordinatewise or len(parts) == 1:
            return [self._combined(part, values) for part in parts]
        sizes = [part.shape[1] for part in parts]
        return list(torch.split(self._combined(torch.cat(list(parts), dim=1), values), sizes))

    def _combined(
        self, members: Float[Tensor, "members size"], values: Mapping[str, Any]
    ) -> Float[Tensor, "size"]:
        found = self.function(members, **values)
        if not self.unit:
            return found
        lengths = torch.linalg.vector_norm(members, dim=1, dtype=torch.float64)
        return found * torch.quantile(lengths, 0.5).to(found.dtype)


aggregators: Registry[Aggregator] = Registry(
    "aggregator", "selftune.aggregators", beside=("selftune.regularizers",)
)
"""Aggregators by name, as study files call them."""
