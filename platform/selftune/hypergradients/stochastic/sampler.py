"""Batches of both levels: a fixed partition of the examples, drawn from with a seeded generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.shapes import Int, Tensor


@dataclass(frozen=True)
class Batch:
    """One batch of a partition."""

    number: int
    """Its place in the partition."""
    index: Int[Tensor, "b"]
    """Its examples."""
    weight: float
    """Its share of the examples, and the probability that it is drawn."""


class Sampler:
    """Partitions of both levels' examples into batches, and random draws from them.

    A batch is drawn with a probability proportional to its size, so means over batches are unbiased even where
    the last one is smaller. Draws happen on the host: no device is waited for.

    Args:
        lower_examples: examples of the lower level, at least 1.
        upper_examples: examples of the upper level, at least 1.
        batch_size: at least 1; a level with fewer examples has one batch of all.
        seed: of the partitions and of the draws.
        device: where the indices live, that of the data.

    Raises:
        SettingError: if a number is below 1.

    >>> sampler = Sampler(lower_examples=5, upper_examples=2, batch_size=2)
    >>> [batch.weight for batch in sampler.lower], [batch.weight for batch in sampler.upper]
    ([0.4, 0.4, 0.2], [1.0])
    >>> lower, upper = sampler.draw(3)
    >>> len(lower), upper.number
    (3, 0)
    """

    def __init__(
        self,
        lower_examples: int,
        upper_examples: int,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = {"lower_examples": lower_examples, "upper_examples": upper_examples, "batch_size": batch_size}
        for key, size in sizes.items():
            if size < 1:
                raise SettingError(key, f"must be at least 1, got {size}")
        self.batch_size = batch_size
        self._examples = (lower_examples, upper_examples)
        self._generator = torch.Generator().manual_seed(seed)
        self.lower = self._partition(lower_examples, device)
        self.upper = self._partition(upper_examples, device)

    def _partition(self, examples: int, device: torch.device | str) -> tuple[Batch, ...]:
        pieces = torch.split(torch.randperm(examples, generator=self._generator), self.batch_size)
        return tuple(
            Batch(number, piece.sort().values.to(device), len(piece) / examples)
            for number, piece in enumerate(pieces)
        )

    def draw(self, lower_draws: int) -> tuple[list[Batch], Batch]:
        """Independent batches of one iteration: ``lower_draws`` of the lower level, one of the upper level."""
        lower, upper = self._examples
        # the batch of a uniform position in the partition has the probability wanted
        positions = torch.randint(lower, (lower_draws,), generator=self._generator).tolist()
        position = int(torch.randint(upper, (), generator=self._generator))
        chosen = [self.lower[p // self.batch_size] for p in positions]
        return chosen, self.upper[position // self.batch_size]

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand; the partitions follow from the arguments."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues the draws of a sampler made with the same arguments."""
        self._generator.set_state(state["generator"])
