"""SAGA: the last value of every batch in a table, and an estimate of the mean whose variance vanishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selftune.shapes import Float, Tensor


@dataclass
class SagaTable:
    """One vector per batch, and their mean weighted by the batches' shares of the examples.

    Source: "SAGA: A Fast Incremental Gradient Method With Support for Non-Strongly Convex Composite Objectives"
    (arXiv 1407.0202), eq. 1.

    >>> table = SagaTable.of([torch.tensor([0.0]), torch.tensor([4.0])], weights=[0.5, 0.5])
    >>> table.estimate(0, torch.tensor([1.0]))  # 1 - 0 + 2
    tensor([3.])
    >>> table.mean
    tensor([2.5000])
    """

    rows: Float[Tensor, "batches n"]
    mean: Float[Tensor, "n"]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, rows: Sequence[Float[Tensor, "n"]], weights: Sequence[float]) -> SagaTable:
        """The table of ``rows``; the weights are positive and sum to 1."""
        stacked = torch.stack(list(rows))
        shares = torch.tensor(weights, dtype=stacked.dtype).to(stacked.device)
        return cls(stacked, (shares[:, None] * stacked).sum(dim=0), tuple(weights))

    def estimate(self, number: int, new: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """new - old + mean, unbiased where batches are drawn by their weights; ``new`` is stored."""
        weight, old = self.weights[number], self.rows[number]
        # in this order of operations a table of one batch returns ``new`` to the last bit
        estimate = new + (self.mean - old)
        self.mean = weight * new + (self.mean - weight * old)
        self.rows[number] = new
        return estimate

    def state_dict(self) -> dict[str, Any]:
        """Rows and mean; the mean is no function of the rows to the last bit."""
        return {"rows": self.rows.clone(), "mean": self.mean, "weights": self.weights}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> SagaTable:
        """The table of ``state_dict``."""
        return cls(state["rows"].clone(), state["mean"], tuple(state["weights"]))
