"""Fields of Experts: smoothed absolute responses of a bank of filters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from selftune.objectives.mathematics.smoothed_absolute import smoothed_absolute

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Integer, Interval, Positive, Tune
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def field_of_experts(
    x: Float[Tensor, "batch 1 height width"],
    filters: Float[Tensor, "experts 1 k k"],
    log_weights: Float[Tensor, "experts"],
    log_smoothing: Float[Tensor, "experts"],
) -> Float[Tensor, "batch"]:
    """Weighted sum over filters and pixels of ``sqrt(response^2 + smoothing^2)``.

    Responses are cross-correlations of the image's size, the image reflected at its border without repeating the
    border pixel. A weight of the whole sum is the caller's strength.

    Args:
        filters: of zero mean by convention; k odd.
        log_weights, log_smoothing: natural logarithms of every expert's weight and smoothing length.

    Raises:
        ValueError: if the image has more than one channel or is no larger than (k - 1) / 2, or k is even.

    Source: "Fields of Experts" (Roth and Black, 2009), in the form learned in "An adaptively inexact first-order
    method for bilevel optimization with application to hyperparameter learning" (arXiv 2308.10098), without its
    factor one half.

    >>> x = torch.tensor([[[[0.0, 1.0, 2.0]] * 3]])
    >>> ahead = torch.tensor([[[[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]]]])
    >>> field_of_experts(x, ahead, torch.zeros(1), torch.full((1,), -20.0))
    tensor([9.])
    """
    size = filters.shape[-1]
    if size % 2 == 0:
        raise ValueError(f"filters need an odd size, got {size}")
    if x.shape[1] != 1 or min(x.shape[-2:]) <= size // 2:
        raise ValueError(f"filters of size {size} need larger images of one channel, got shape {tuple(x.shape)}")
    responses = F.conv2d(F.pad(x, (size // 2,) * 4, mode="reflect"), filters)
    lengths = smoothed_absolute(responses, log_smoothing.exp()[:, None, None])
    return lengths.sum(dim=(2, 3)) @ torch.exp(log_weights)


_PER_EXPERT = ("log_weights", "log_smoothing")


@register
class FieldOfExperts(Regularizer):
    """A bank of filters on the image that the network puts out; every filter, weight and length can be tuned.

    Hyperparameters ``log_weights`` and ``log_smoothing`` have one entry per expert, ``filters`` one per tap. A
    single number for ``filters`` is the scale of a bank of random filters of zero mean, 1 for Xavier-normal ones.
    """

    name = "field_of_experts"
    family = "dynamics"
    kind = "penalty"
    reference = Reference("Fields of Experts (Roth and Black, 2009)")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-4, 10.0)), math.exp(-3)),
        Hyperparameter("log_weights", Interval(sweep=(-8.0, 2.0)), -3.0, shared=True),
        Hyperparameter("log_smoothing", Interval(sweep=(-8.0, 0.0)), -3.5, shared=True),
        Hyperparameter("filters", Interval(sweep=(-1.0, 1.0)), 1.0, shared=True, swept=False),
        Hyperparameter("experts", Integer(1, 256, sweep=(8, 64)), 48, online=False, smooth=False),
        Hyperparameter("size", Integer(1, 15, sweep=(3, 9)), 7, online=False, smooth=False),
    )
    needs = frozenset({"reconstruction"})

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        given = self.settings
        self.settings = {name: value for name, value in given.items() if name not in ("filters", *_PER_EXPERT)}
        super().bind(objective, provided)
        self.settings = given
        experts, size = (self.bound[name].value for name in ("experts", "size"))
        numbers = tuple(str(expert) for expert in range(experts))
        taps = tuple(f"{e}:{i}:{j}" for e in range(experts) for i in range(size) for j in range(size))
        for name, parts in (("filters", taps), *((name, numbers) for name in _PER_EXPERT)):
            self.bound[name] = self._of_parts(name, parts)

    def _of_parts(self, name: str, parts: tuple[str, ...]) -> Hyperparameter:
        declared = next(h for h in self.hyperparameters if h.name == name)
        value = self.settings.get(name, declared.value)
        start: Any = value.start if isinstance(value, Tune) else value
        start = declared.value if start is None else start
        if isinstance(start, list | tuple) and len(start) != len(parts):
            raise SettingError(name, f"needs {len(parts)} entries, got {len(start)}")
        if name == "filters" and isinstance(start, int | float):
            start = _bank(start, self.bound["experts"].value, self.bound["size"].value)
        value = replace(value, start=start) if isinstance(value, Tune) else start
        try:
            return declared.with_value(value, parts, f"{self.name}.")
        except ValueError as error:
            raise SettingError(name, str(error)) from error

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        size, image = self.bound["size"].value, step.reconstruction
        filters, weights, smoothing = (self.value(step, name).to(image) for name in ("filters", *_PER_EXPERT))
        return field_of_experts(image, filters.view(-1, 1, size, size), weights, smoothing)


def _bank(scale: float, experts: int, size: int) -> tuple[float, ...]:
    """Normal filters of zero mean, always the same ones."""
    deviation = scale * (2 / (size**2 * (1 + experts))) ** 0.5
    filters = deviation * torch.randn(experts, size**2, generator=torch.Generator().manual_seed(0))
    return tuple((filters - filters.mean(dim=1, keepdim=True)).flatten().tolist())
