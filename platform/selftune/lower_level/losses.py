"""Losses of a batch, element by element: what an objective gives, and how the engine makes means of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.shapes import Float, Int, Tensor


@dataclass(frozen=True)
class Losses:
    """Loss values of the elements of a batch: of its examples, or of their tokens, pixels, outputs.

    The loss of an example is the mean over its elements, that of the batch the mean over all elements, both
    weighted: long examples count for more, and what has weight 0 (padding, ignored pixels) for nothing.

    Args:
        values: one loss per element, of any shape.
        weights: how much each element counts, at least 0; None where all count alike.
        rows: the example of the batch that each element belongs to, from 0; None where the first axis of
            ``values`` runs over the examples.

    >>> tokens = Losses(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), weights=torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    >>> tokens.mean()
    tensor(3.)
    >>> tokens.of_examples(2)
    (tensor([2., 5.]), tensor([2., 1.]))
    """

    values: Float[Tensor, "*elements"]
    weights: Float[Tensor, "*elements"] | None = None
    rows: Int[Tensor, "*elements"] | None = None

    def of_examples(self, examples: int) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"] | None]:
        """The loss of every example, and how much it counts in the mean; None where all count alike.

        An example without elements, or with weights of 0 alone, has loss 0 and counts for nothing.
        """
        if self.rows is None:
            if self.weights is None:
                return (self.values if self.values.ndim == 1 else self.values.flatten(1).mean(dim=1)), None
            weights = self.weights.to(self.values.dtype)
            if self.values.ndim == 1:
                return self.values, weights
            sums, totals = (self.values * weights).flatten(1).sum(dim=1), weights.flatten(1).sum(dim=1)
        else:
            rows = self.rows.reshape(-1)
            weights = torch.ones_like(self.values) if self.weights is None else self.weights.to(self.values.dtype)
            nothing = self.values.new_zeros(examples)
            sums = nothing.index_add(0, rows, (self.values * weights).reshape(-1))
            totals = nothing.index_add(0, rows, weights.reshape(-1))
        return sums / torch.where(totals > 0, totals, 1.0), totals

    def moved_by(self, move: Callable[[Tensor], Tensor]) -> Losses:
        """These with ``move`` of what belongs to the elements, where the first axis runs over the examples."""
        assert self.rows is None
        return Losses(
            move(self.values), None if self.weights is None else move(self.weights.to(self.values.dtype))
        )

    def totals(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | int]:
        """The weighted sum over all elements, and the sum of the weights."""
        if self.weights is None:
            return self.values.sum(), self.values.numel()
        weights = self.weights.to(self.values.dtype)
        return (self.values * weights).sum(), weights.sum()

    def mean(self) -> Float[Tensor, ""]:
        """The weighted mean over all elements; 0 where nothing counts."""
        if self.weights is None:
            return self.values.mean()
        return weighted_mean(self.values, self.weights)


def weighted_mean(
    values: Float[Tensor, "*elements"],
    weights: Float[Tensor, "*elements"] | None,
    over_processes: Callable[[Tensor], Tensor] = lambda total: total,
) -> Float[Tensor, ""]:
    """The mean of values that count as ``weights`` say, alike where None; 0 where nothing counts.

    Args:
        over_processes: the mean of a number over the processes that share a batch, so that the mean of their
            results is that of the whole batch.

    >>> weighted_mean(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0]))
    tensor(2.)
    """
    if weights is None:
        return values.mean()
    weights = weights.to(values.dtype)
    total = over_processes(weights.sum())
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)


def as_losses(given: Tensor | Losses) -> Losses:
    """What an objective gave, as ``Losses``: a tensor is one loss per example."""
    return given if isinstance(given, Losses) else Losses(given)


def check_losses(key: str, given: object, examples: int) -> None:
    """Refuses what is no loss per element.

    Args:
        key: what gave it.
        examples: of the batch it was taken of.

    Raises:
        SettingError: if it is a mean, belongs to another number of examples, or its parts do not fit each other.

    >>> check_losses("loss", torch.tensor(0.7), examples=4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    selftune.errors.SettingError: loss: must be one number per example, ...
    """
    wanted = f"must be one number per example, shape ({examples},) of {examples}, or Losses(...), not their mean"
    if not isinstance(given, Losses):
        if not isinstance(given, Tensor) or given.shape != (examples,):
            raise SettingError(key, f'{wanted} (reduction="none"); it is {shown(given)}')
        return
    for name in ("weights", "rows"):
        part = getattr(given, name)
        if part is not None and part.shape != given.values.shape:
            shapes = f"{tuple(part.shape)} instead of {tuple(given.values.shape)}"
            raise SettingError(key, f"gives Losses whose {name} have another shape than their values: {shapes}")
    if given.rows is None:
        if not given.values.ndim or len(given.values) != examples:
            raise SettingError(
                key,
                f"gives Losses of shape {tuple(given.values.shape)} for {examples} examples; say in rows which"
                " example each of them belongs to",
            )
    elif given.rows.numel() and not 0 <= int(given.rows.min()) <= int(given.rows.max()) < examples:
        raise SettingError(key, f"gives Losses with rows outside 0 to {examples - 1}, the examples of the batch")
