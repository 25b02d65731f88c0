"""Cylinder, bell and funnel: three kinds of noisy signals, generated."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Int, Tensor

LENGTH = 128
CLASSES = ("cylinder", "bell", "funnel")


def cylinder_bell_funnel(
    examples: int, noise: float = 1.0, seed: int = 0
) -> tuple[Float[Tensor, "examples 128"], Int[Tensor, "examples"]]:
    """Signals and the numbers of their kinds, which take turns.

    From an onset a, uniform in [16, 32), to an end b, uniform in [a + 32, a + 96), a signal has the height
    6 + z, z standard normal: all the way (cylinder), rising from 0 to it (bell), or falling from it to 0 (funnel).
    Outside it is 0, and Gaussian noise is everywhere.

    Args:
        noise: standard deviation of the noise; 1 as published.

    Source: "Local feature extraction and its applications using a library of bases" (Saito, 1994).

    >>> signals, labels = cylinder_bell_funnel(6)
    >>> signals.shape, labels.tolist()
    (torch.Size([6, 128]), [0, 1, 2, 0, 1, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % len(CLASSES)
    onset = 16 + 16 * torch.rand(examples, 1, generator=generator)
    width = 32 + 64 * torch.rand(examples, 1, generator=generator)
    height = 6 + torch.randn(examples, 1, generator=generator)
    progress = (torch.arange(LENGTH) - onset) / width
    shapes = torch.stack([torch.ones_like(progress), progress, 1 - progress])[labels, torch.arange(examples)]
    signals = height * shapes * ((progress >= 0) & (progress <= 1))
    return signals + noise * torch.randn(examples, LENGTH, generator=generator), labels
