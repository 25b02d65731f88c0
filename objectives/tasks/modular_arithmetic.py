"""Modular arithmetic: the table of (a op b) mod p."""

from __future__ import annotations

import torch

from selftune.shapes import Int, Tensor


def modular_arithmetic(
    *, modulus: int, operation: str = "add"
) -> tuple[Int[Tensor, "pairs 2"], Int[Tensor, "pairs"]]:
    """All pairs (a, b) of residues in lexicographic order, and their labels (a op b) mod ``modulus``.

    Args:
        modulus: p, at least 1; there are p ** 2 pairs.
        operation: "add", "subtract" or "multiply".

    Raises:
        ValueError: if the modulus is below 1 or the operation is unknown.

    Source: "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
    datasets" (arXiv 2310.13061).

    >>> pairs, labels = modular_arithmetic(modulus=2)
    >>> pairs.tolist(), labels.tolist()
    ([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])
    """
    if modulus < 1:
        raise ValueError(f"modular_arithmetic needs a modulus of at least 1, got {modulus}.")
    residues = torch.arange(modulus)
    pairs = torch.cartesian_prod(residues, residues)
    a, b = pairs.unbind(dim=1)
    results = {"add": a + b, "subtract": a - b, "multiply": a * b}
    if operation not in results:
        raise ValueError(f"modular_arithmetic knows the operations {', '.join(results)}, got {operation!r}.")
    return pairs, results[operation] % modulus
