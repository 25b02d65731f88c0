"""Experience replay from a reservoir: a bounded uniform sample of the stream."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Int, Tensor


def experience_replay(
    priorities: Float[Tensor, "stored"], new_priorities: Float[Tensor, "new"], capacity: int
) -> Int[Tensor, "kept"]:
    """Which of the examples [stored, new] the memory keeps: the largest keys, in descending order.

    Every example of the stream gets one key from a uniform distribution; what is kept is then a uniform sample
    without replacement of everything seen. Among equal keys, earlier examples come first.

    Args:
        capacity: not negative; the result has length min(capacity, stored + new).

    Raises:
        ValueError: if the capacity is negative.

    Source: "On Tiny Episodic Memories in Continual Learning" (arXiv 1902.10486), its reservoir.

    >>> experience_replay(torch.tensor([0.9, 0.1]), torch.tensor([0.5]), capacity=2)
    tensor([0, 2])
    """
    if capacity < 0:
        raise ValueError(f"capacity must not be negative, got {capacity}")
    keys = torch.cat([priorities, new_priorities])
    return torch.argsort(keys, descending=True, stable=True)[:capacity]
