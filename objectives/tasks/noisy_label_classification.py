"""Classification with corrupted training labels: the data."""

from __future__ import annotations

from typing import Literal

import torch
from selftune.objectives.regularizers.supervision.label_noise import label_noise

from selftune.shapes import Float, Int, Tensor

# Pairs of classes that look alike, as customary: handwritten digits 2->7, 3->8, 5<->6, 7->1.
DIGITS_CONFUSIONS = (0, 1, 7, 8, 4, 6, 5, 1, 8, 9)


def _corrupted(
    labels: Int[Tensor, "examples"],
    rate: float,
    kind: Literal["symmetric", "asymmetric"],
    confusions: tuple[int, ...],
    seed: int,
) -> Int[Tensor, "examples"]:
    """The labels with noise that depends on the seed only.

    Args:
        kind: "symmetric" replaces by any other class, "asymmetric" by the class that ``confusions`` names.
        confusions: for every class the one it is mistaken for; the class itself where there is none.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform, offset = torch.rand(2, len(labels), generator=generator)
    if kind == "symmetric":
        return label_noise(labels, uniform, offset, rate, len(confusions))
    return torch.tensor(confusions)[labels].where(uniform < rate, labels)


def _memorized_fraction(
    logits: Float[Tensor, "examples classes"],
    noisy: Int[Tensor, "examples"],
    clean: Int[Tensor, "examples"],
) -> Float[Tensor, ""]:
    """Share of the corrupted examples that are predicted as their wrong label; 0 if none is corrupted."""
    corrupted = noisy != clean
    memorized = (logits.argmax(dim=-1) == noisy) & corrupted
    return memorized.sum() / corrupted.sum().clamp(min=1)
