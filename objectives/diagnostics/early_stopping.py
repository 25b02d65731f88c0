"""Early stopping by patience."""

from __future__ import annotations

import math

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="supervision",
    reference=Reference("Early Stopping - but when? (Prechelt, 1998)"),
    results=("best_epoch", "stop_epoch"),
)
def early_stopping(values: Float[Tensor, "epochs"], patience: int = 10, min_delta: float = 0.0) -> tuple[int, int]:
    """The epoch with the best validation value and the epoch at which training stops.

    Training stops once ``patience`` epochs in a row were no improvement by more than ``min_delta``; later
    values are ignored. Lower is better; NaN and infinities are no improvement.

    Args:
        patience: at least 1.
        min_delta: at least 0.

    Returns:
        The best epoch (-1 if no value is finite) and the epoch of the stop (-1 if there is none).

    Raises:
        ValueError: if ``patience`` is below 1.

    Source: "Early Stopping - but when?" (Prechelt, 1998).

    >>> import torch
    >>> early_stopping(torch.tensor([3.0, 2.0, 2.5, 2.4, 1.0]), patience=2)
    (1, 3)
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}.")
    best, best_epoch, bad = math.inf, -1, 0
    for epoch, value in enumerate(values.tolist()):
        if math.isfinite(value) and value < best - min_delta:
            best, best_epoch, bad = value, epoch, 0
        else:
            bad += 1
            if bad >= patience:
                return best_epoch, epoch
    return best_epoch, -1
