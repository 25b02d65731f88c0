"""Diagnostics: functions of a trained network that measure it, without being part of its loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from selftune.errors import SettingError, suggestion
from selftune.registries.reference import Reference
from selftune.registries.registry import Registry, address
from selftune.regularization.needs import as_needed, from_signature, mistakes
from selftune.regularization.quantity import Quantity
from selftune.regularization.step import Step
from selftune.regularization.step_quantities import closure, last_layer_mistake
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

Mode = Literal["max", "min"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Diagnostic:
    """A measurement as the catalogue knows it.

    Attributes:
        needs: function argument -> provided quantity, on validation data. Without any, it is for finished runs:
            a function to call, which no study computes by itself.
        better: whether larger or smaller values are better, where one of them is; by result, where they differ.
        results: names of its results, where there are several.
        settings: the function's further arguments with their defaults.
    """

    name: str
    family: str
    reference: Reference
    function: Callable[..., Any]
    needs: Mapping[str, str]
    better: Mode | Mapping[str, Mode] | None
    results: tuple[str, ...]
    settings: Mapping[str, Any]

    kind = "diagnostic"

    def needed(self) -> list[Quantity]:
        """What it needs, in the axes and types that its function's signature says."""
        said = from_signature(self.function, self.needs)
        axes = {name: quantity.axes for name, quantity in said.items()}
        types = {name: quantity.type for name, quantity in said.items()}
        found = (as_needed(name, axes, types) for name in sorted(set(self.needs.values())))
        return [quantity for quantity in found if quantity is not None]


diagnostics: Registry[Diagnostic] = Registry("diagnostic", "selftune.diagnostics")
"""Diagnostics by name, as study files call them."""


def diagnostic(
    *,
    family: str,
    reference: Reference,
    needs: Mapping[str, str] | None = None,
    better: Mode | Mapping[str, Mode] | None = None,
    results: Sequence[str] = (),
) -> Callable[[F], F]:
    """Registers a measurement and returns the function unchanged.

    Args:
        needs: function argument -> provided quantity; none for what is computed from finished runs.
        better: whether a study judged by it prefers larger or smaller values; by result, where results differ.
        results: names of the results of a function that returns several.
    """

    def decorate(function: F) -> F:
        bound = dict(needs or {})
        settings = {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in bound and parameter.default is not inspect.Parameter.empty
        }
        name = function.__name__
        diagnostics.register(
            name, Diagnostic(name, family, reference, function, bound, better, tuple(results), settings)
        )
        return function

    return decorate


@dataclass(frozen=True)
class Measurement:
    """A diagnostic in a study: with its settings, every so many hyper-steps.

    Raises:
        SettingError: for an unknown setting, a period below 1, or a diagnostic of finished runs.

    >>> Measurement("rank_me", every=10).names
    ('rank_me',)
    """

    diagnostic: str
    every: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        entry = self.entry
        if not entry.needs:
            raise SettingError("", f"{entry.name} judges finished runs; call {address(entry.function)}")
        if self.every < 1:
            raise SettingError("every", f"must be at least 1, got {self.every}")
        for key in self.settings:
            if key not in entry.settings:
                raise SettingError(key, f"unknown setting of {entry.name}; {suggestion(key, entry.settings)}")

    @property
    def entry(self) -> Diagnostic:
        return diagnostics[self.diagnostic]

    @property
    def names(self) -> tuple[str, ...]:
        """What its results are called: its name, or ``name.result`` of several."""
        return tuple(f"{self.diagnostic}.{result}" for result in self.entry.results) or (self.diagnostic,)

    @property
    def better(self) -> dict[str, Mode | None]:
        """What a study judged by one of the results prefers, by their names; None where neither is better."""
        better = self.entry.better
        if not isinstance(better, Mapping):
            return dict.fromkeys(self.names, better)
        return {f"{self.diagnostic}.{result}": better.get(result) for result in self.entry.results}

    def check(self, objective: NetworkObjective, offered: frozenset[str] | None = None) -> None:
        """Refuses an objective that does not provide what is needed.

        Raises:
            SettingError: naming both.
        """
        known = closure(objective.offers()) | MEASURED if offered is None else offered | MEASURED
        missing = sorted(set(self.entry.needs.values()) - known)
        if missing:
            wanted = ", ".join(missing)
            raise SettingError("", f"{self.diagnostic} needs {wanted}, which {objective.title} does not provide")
        for clause in mistakes(self.entry.needed(), objective.quantities(), objective.title):
            raise SettingError("", f"{self.diagnostic} {clause}; leave it out")
        mistake = last_layer_mistake(self.entry.needs.values(), objective.inventory())
        if mistake is not None:
            raise SettingError("", f"{self.diagnostic} {mistake}")

    def take(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The results by name, from a step over validation data."""
        given = {argument: getattr(step, quantity) for argument, quantity in self.entry.needs.items()}
        found = self.entry.function(**given, **self.settings)
        values = found if isinstance(found, tuple) else (found,)
        return {name: torch.as_tensor(value) for name, value in zip(self.names, values, strict=True)}


MEASURED = frozenset({"sample_gradients", "stage_accuracies", "stage_boundaries"})
"""What is computed for diagnostics alone."""
