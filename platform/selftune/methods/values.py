"""Values of the tuned hyperparameters, as they travel from a method to its trainers."""

from __future__ import annotations

from dataclasses import dataclass

from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record


@record
@dataclass(frozen=True, eq=False)
class Values:
    """One hyperparameter vector, constrained once, by the method that made it.

    Args:
        unconstrained: what methods move.
        constrained: the same values in their domains; what trains with them takes these, so that a replay of the
            trajectory sees the same bits.
        version: the hyper-step at which they were made, from 0.

    >>> import torch
    >>> Values(torch.zeros(2), torch.ones(2), version=3).version
    3
    """

    unconstrained: Float[Tensor, "n"]
    constrained: Float[Tensor, "n"]
    version: int
