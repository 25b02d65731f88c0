"""Learning rate and epochs for a larger batch."""

from __future__ import annotations

import math

from selftune.registries.reference import Reference
from selftune.registries.solvers import solver


@solver(
    family="supervision",
    reference=Reference(
        "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural"
        " Networks",
        "1705.08741",
    ),
)
def large_batch_scaling(
    learning_rate: float, epochs: int, batch_size: int, base_batch_size: int
) -> tuple[float, int]:
    """Scales the learning rate by the square root of the batches' ratio and the epochs by the ratio, rounded up.

    The number of updates, not of epochs, stays what it was. Milestones of a schedule scale like the epochs.

    Args:
        learning_rate, epochs: right for ``base_batch_size``.
        batch_size, base_batch_size: at least 1.

    Raises:
        ValueError: if a batch size is below 1.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741).

    >>> large_batch_scaling(0.1, 10, batch_size=512, base_batch_size=128)
    (0.2, 40)
    """
    for name, size in (("batch_size", batch_size), ("base_batch_size", base_batch_size)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
    return learning_rate * math.sqrt(batch_size / base_batch_size), epochs * -(-batch_size // base_batch_size)
