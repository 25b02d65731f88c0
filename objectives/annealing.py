"""Strengths that begin to count after so many training steps."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Integer
from selftune.shapes import Float, Tensor


def anneal_steps() -> Hyperparameter:
    """Training steps before the strength counts; 0 by default, because a tuned strength is itself a schedule.

    >>> anneal_steps().name
    'anneal'
    """
    return Hyperparameter("anneal", Integer(0, 1_000_000), 0, online=False, smooth=False, shared=True)


def annealed(
    value: Float[Tensor, ""], strength: Float[Tensor, "*batch"], number: int, anneal: int, before: float
) -> Float[Tensor, "*batch"]:
    """What, times ``strength``, is ``before * value`` in the first ``anneal`` steps; without strength zero.

    >>> annealed(torch.tensor(3.0), torch.tensor(100.0), number=5, anneal=10, before=1.0)
    tensor(0.0300)
    >>> annealed(torch.tensor(3.0), torch.tensor(100.0), number=10, anneal=10, before=1.0)
    tensor(3.)
    """
    if number >= anneal:
        return value
    there = strength > 0
    return value * torch.where(there, before / torch.where(there, strength, 1), 0)
