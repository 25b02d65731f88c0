"""A space packs the tuned hyperparameters into one unconstrained vector, and knows every way out of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from selftune.hyperparameters.domain import Domain
from selftune.hyperparameters.hyperparameter import Hyperparameter
from selftune.shapes import Bool, Float, Tensor


class Space:
    """The hyperparameters of a study: tuned ones as columns of one vector, fixed ones as constants.

    Args:
        hyperparameters: all of them, tuned or not, in the order that decides the columns.

    Raises:
        ValueError: if two hyperparameters have one name.

    >>> from selftune.hyperparameters import Positive, Unit
    >>> space = Space([Hyperparameter("dropout.rate", Unit(), 0.1, tuned=True),
    ...                Hyperparameter("mixup.alpha", Positive(), 0.2)])
    >>> space.names
    ('dropout.rate',)
    >>> space.values(space.start)["dropout.rate"]
    tensor(0.1000)
    """

    def __init__(self, hyperparameters: Iterable[Hyperparameter]) -> None:
        self.hyperparameters = tuple(hyperparameters)
        seen: set[str] = set()
        for hyperparameter in self.hyperparameters:
            if hyperparameter.name in seen:
                raise ValueError(f"two hyperparameters are named {hyperparameter.name!r}")
            seen.add(hyperparameter.name)
        self.tuned = tuple(h for h in self.hyperparameters if h.tuned)
        self.names: tuple[str, ...] = tuple(name for h in self.tuned for name in h.names)
        self._slices: dict[str, slice] = {}
        self._constants: dict[tuple[torch.device, torch.dtype], _Constants] = {}
        at = 0
        for h in self.tuned:
            self._slices[h.name] = slice(at, at + h.size)
            at += h.size

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_constants": {}}  # constants belong to a device of this process

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.hyperparameters == other.hyperparameters

    def __hash__(self) -> int:
        return hash(self.hyperparameters)

    @property
    def start(self) -> Float[Tensor, "n"]:
        """The unconstrained vector of the tuned hyperparameters' start values, in single precision."""
        return self.start_as(torch.float32)

    def start_as(self, dtype: torch.dtype) -> Float[Tensor, "n"]:
        """``start`` in another precision, computed in it."""
        parts = [h.domain.unconstrain(torch.as_tensor(h.value, dtype=dtype).reshape(-1)) for h in self.tuned]
        return torch.cat(parts) if parts else torch.empty(0, dtype=dtype)

    @cached_property
    def _domains(self) -> dict[Domain, list[int]]:
        """Columns that share a domain, so that a transform costs one call per domain, not per column."""
        columns: dict[Domain, list[int]] = {}
        for h in self.tuned:
            columns.setdefault(h.domain, []).extend(range(len(self))[self._slices[h.name]])
        return columns

    def _on(self, like: Tensor) -> _Constants:
        """Constants on a tensor's device and in its type, made once: a training step copies nothing."""
        key = (like.device, like.dtype)
        if key not in self._constants:
            self._constants[key] = _Constants(
                groups=tuple(
                    (domain, torch.tensor(index, device=like.device)) for domain, index in self._domains.items()
                ),
                shared=self.shared.to(like.device),
                fixed={
                    h.name: h.tensor.to(like) if h.domain.movable else h.value
                    for h in self.hyperparameters
                    if not h.tuned
                },
            )
        return self._constants[key]

    @cached_property
    def shared(self) -> Bool[Tensor, "n"]:
        """Column mask: True where one perturbation serves the whole mini-batch."""
        return torch.tensor([h.shared for h in self.tuned for _ in range(h.size)], dtype=torch.bool)

    def constrain(self, unconstrained: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """Constrained values of every column, for one vector or one per example."""
        groups = self._on(unconstrained).groups
        if len(groups) == 1:
            return groups[0][0].constrain(unconstrained)
        constrained = torch.empty_like(unconstrained)
        for domain, index in groups:
            constrained = constrained.index_copy(
                -1, index, domain.constrain(unconstrained.index_select(-1, index))
            )
        return constrained

    def unconstrain(self, values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """The inverse of ``constrain``."""
        unconstrained = torch.empty_like(values)
        for domain, index in self._on(values).groups:
            unconstrained[..., index] = domain.unconstrain(values[..., index])
        return unconstrained

    def values(self, unconstrained: Float[Tensor, "*batch n"]) -> dict[str, Any]:
        """Every hyperparameter by name, as regularizers see it.

        Tuned scalars have shape (*batch,), tuned tensors (*batch, parts); of a shared hyperparameter the
        first row is returned, without the batch axis. Fixed ones are tensors of shape () or (parts,), choices
        the option itself.
        """
        return self.unpack(self.constrain(unconstrained))

    def unpack(self, constrained: Float[Tensor, "*batch n"]) -> dict[str, Any]:
        """``values`` of a vector that is constrained already."""
        unpacked = dict(self._on(constrained).fixed)
        for h in self.tuned:
            columns = constrained[..., self._slices[h.name]]
            if h.shared and columns.ndim > 1:
                columns = columns[0]
            unpacked[h.name] = columns if h.parts else columns[..., 0]
        return unpacked

    def perturbation(self, scale: Float[Tensor, "n"], noise: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """``scale * noise``, where shared columns take the first row's noise in every row."""
        return scale * torch.where(self._on(noise).shared, noise[:1], noise)

    def param_space(self) -> dict[str, Any]:
        """Ray Tune's ``param_space``: one search domain per entry of every tuned hyperparameter."""
        return {name: h.domain.to_ray() for h in self.tuned for name in h.names}

    def distributions(self) -> dict[str, Any]:
        """Optuna's distributions: one per entry of every tuned hyperparameter."""
        return {name: h.domain.to_optuna() for h in self.tuned for name in h.names}

    def from_config(self, config: Mapping[str, float]) -> Float[Tensor, "n"]:
        """The unconstrained vector of one sample of ``param_space`` or ``distributions``.

        Raises:
            KeyError: if the sample lacks a name.
        """
        return self.unconstrain(torch.tensor([float(config[name]) for name in self.names]))


@dataclass(frozen=True)
class _Constants:
    groups: tuple[tuple[Domain, Tensor], ...]
    shared: Tensor
    fixed: dict[str, Any]


def scale_of(parameter: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The perturbation's standard deviation: the softplus of its free parameter."""
    return F.softplus(parameter)


def entropy(parameter: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Entropy of the perturbation, sum of log(sigma sqrt(2 pi e)) (Delta-STN, arXiv 2010.13514).

    >>> from selftune.hyperparameters.domain import inverse_softplus
    >>> round(entropy(inverse_softplus(torch.ones(1))).item(), 6)
    1.418939
    """
    return torch.log(F.softplus(parameter)).sum() + parameter.numel() * 0.5 * math.log(2 * math.pi * math.e)


def entropy_gradient(parameter: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Gradient of ``entropy`` with respect to the free parameter: sigmoid(s) / softplus(s)."""
    return torch.sigmoid(parameter) / F.softplus(parameter)
