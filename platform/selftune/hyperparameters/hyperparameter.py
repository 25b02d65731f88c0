"""A hyperparameter: a name, a domain, a value, and what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from selftune.hyperparameters.domain import Domain
from selftune.hyperparameters.start_rule import AUTO, StartRule
from selftune.shapes import Float, Tensor

_MOST_NAMED = 40  # parts that a sentence lists


@dataclass(frozen=True)
class Tune:
    """Says that a hyperparameter is tuned, from ``start`` (default: the hyperparameter's own default).

    ``start`` may be one number, a mapping from part to number, or a tensor of one number per part; ``"auto"``
    takes the value of the hyperparameter's rule, where there is one. ``domain`` narrows the hyperparameter's own.

    >>> Tune(0.1)
    Tune(start=0.1, domain=None)
    """

    start: float | Mapping[str, float] | Tensor | Literal["auto"] | None = None
    domain: Domain | None = None


@dataclass(frozen=True)
class Hyperparameter:
    """One regularization hyperparameter, as a regularizer declares it and as a study sets it.

    Args:
        name: ``<regularizer>.<name>`` in a study; the bare name where a regularizer declares it.
        domain: the values it may take.
        value: current value; the start where it is tuned. One entry per part, shape () without parts.
        parts: labels of the entries (layers, classes, features...), empty for a scalar.
        tuned: whether a method moves it.
        online: whether it may change during training.
        smooth: whether the training loss is differentiable in it, so that implicit differentiation applies.
        responds: whether the loss of a step, or a map of the weights, depends on it, so that a network can learn a
            response; what acts on gradients or replaces whole steps has none.
        shared: one perturbation per mini-batch instead of one per example (whatever acts on weights
            or on the batch as a whole).
        per_example: whether the parts are the training examples, of which a step reads those of its batch.
        per_class: whether the parts are the classes, of which a step reads those of its examples' labels.
        pools: how many neighbouring parts are alike, one number after the other: units of a layer, or classes.
        swept: whether the named search spaces hold it; False for what says what the problem is (the share of wrong
            labels), how exactly something is computed, or what only fits together with other settings.
        start: the rule that ``start: auto`` takes; None where no rule is known.

    >>> from selftune.hyperparameters import Unit
    >>> rate = Hyperparameter("rate", Unit(), 0.5)
    >>> rate.with_value(Tune({"input": 0.1, "hidden": 0.2}), parts=("input", "hidden")).names
    ('rate[input]', 'rate[hidden]')
    """

    name: str
    domain: Domain
    value: Any
    parts: tuple[str, ...] = ()
    tuned: bool = False
    online: bool = True
    smooth: bool = True
    responds: bool = True
    shared: bool = False
    per_example: bool = False
    per_class: bool = False
    pools: tuple[int, ...] = ()
    swept: bool = field(default=True, repr=False)
    start: StartRule | None = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per entry: ``name``, or ``name[part]``."""
        return tuple(f"{self.name}[{part}]" for part in self.parts) or (self.name,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.parts),) if self.parts else ()

    @property
    def size(self) -> int:
        return len(self.parts) or 1

    @property
    def tensor(self) -> Float[Tensor, "*shape"]:
        """The value as a tensor of shape () or (parts,)."""
        return torch.as_tensor(self.value, dtype=torch.get_default_dtype())

    def with_value(self, value: Any, parts: Sequence[str] = (), prefix: str = "") -> Hyperparameter:
        """This hyperparameter as a study sets it: a number, a mapping from part to number, or a ``Tune``.

        Raises:
            ValueError: one sentence, without the hyperparameter's name, if the value is outside the domain,
                a tuned start lies on a bound, a part is unknown or missing, or it cannot be tuned.
        """
        parts = tuple(parts)
        tuned = isinstance(value, Tune)
        domain = self.domain
        if isinstance(value, Tune):
            if not self.online or not domain.movable:
                raise ValueError("cannot be tuned while the network trains; give it a fixed value")
            if value.domain is not None:
                try:
                    value.domain.check_narrows(domain)
                except ValueError as error:
                    raise ValueError(f"its domain {error}") from error
                domain = value.domain
            value = self.value if value.start is None else value.start
        if isinstance(value, str) and value == AUTO and not domain.contains(AUTO):
            raise ValueError("no rule says where it starts; give a number")
        if isinstance(value, Mapping):
            value = _by_part(value, parts)
        if isinstance(value, Tensor):
            value = value.tolist()
        if parts and domain.movable and isinstance(value, list | tuple) and len(value) != len(parts):
            raise ValueError(f"must have a value for each of {len(parts)} parts, got {len(value)}")
        entries = value if isinstance(value, list | tuple) and domain.movable else [value]
        for entry in entries:
            if not domain.contains(entry):
                raise ValueError(f"must be {domain.describe()}, got {entry!r}")
            if tuned and not domain.is_interior(entry):
                raise ValueError(f"a tuned start must lie inside the bounds of {domain.describe()}, got {entry!r}")
        if parts and domain.movable and not isinstance(value, list | tuple):
            value = [value] * len(parts)
        value = tuple(value) if isinstance(value, list | tuple) else value
        return replace(self, name=prefix + self.name, domain=domain, value=value, parts=parts, tuned=tuned)


def _by_part(values: Mapping[str, float], parts: tuple[str, ...]) -> list[float]:
    if not parts:
        raise ValueError(f"has no parts here, so it takes one value, not a mapping of {sorted(values)}")
    unknown = sorted(set(values) - set(parts))
    missing = [part for part in parts if part not in values]
    if unknown or missing:
        wrong = f"unknown part {unknown[0]!r}" if unknown else f"no value for part {missing[0]!r}"
        known = ", ".join(parts) if len(parts) <= _MOST_NAMED else f"{parts[0]}, {parts[1]}, ... {parts[-1]}"
        raise ValueError(f"{wrong}; the parts are {known}")
    return [values[part] for part in parts]
