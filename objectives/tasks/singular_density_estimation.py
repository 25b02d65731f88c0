"""Density estimation for data near a curve: the data and the distance of samples."""

from __future__ import annotations

import math
from typing import Literal

import torch

from selftune.shapes import Float, Tensor


def _points(
    curve: Literal["circle", "sphere", "swiss_roll"], ambient_dim: int, samples: int, seed: int
) -> Float[Tensor, "samples ambient_dim"]:
    """Points on a manifold of dimension 1 or 2, rotated into ``ambient_dim`` dimensions.

    The rotation depends on the curve and the dimension only, so that every seed samples the same distribution.

    Raises:
        ValueError: if the curve does not fit into the dimensions.
    """
    generator = torch.Generator().manual_seed(seed)
    if curve == "sphere":
        normal = torch.randn(samples, 3, generator=generator)
        points = normal / normal.norm(dim=1, keepdim=True)
    else:
        uniform = torch.rand(samples, generator=generator)
        turns = 2 * math.pi * (uniform if curve == "circle" else 0.5 + 1.5 * uniform)
        radius = torch.ones_like(turns) if curve == "circle" else turns / (4 * math.pi)
        points = radius[:, None] * torch.stack([turns.cos(), turns.sin()], dim=1)
    if ambient_dim < points.shape[1]:
        raise ValueError(f"a {curve} needs at least {points.shape[1]} dimensions, got ambient_dim={ambient_dim}.")
    frame = torch.linalg.qr(torch.randn(ambient_dim, points.shape[1], generator=torch.Generator().manual_seed(0)))
    return points @ frame.Q.T


def _sliced_wasserstein(
    first: Float[Tensor, "samples dim"],
    second: Float[Tensor, "samples dim"],
    directions: Float[Tensor, "slices dim"],
) -> Float[Tensor, ""]:
    """Mean 1-Wasserstein distance of the samples projected on every direction (normalised here)."""
    unit = directions / directions.norm(dim=1, keepdim=True)
    projected = [(points @ unit.T).sort(dim=0).values for points in (first, second)]
    return (projected[0] - projected[1]).abs().mean()
