"""Density estimation for data on a curve or a surface in space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from selftune.data import Split, check_splits
from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective, tasks
from selftune.lower_level.optimization import Optimization
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity("samples", ("n", "d"), "float", "points that a generator puts out"),
    Quantity("data", ("m", "d"), "float", "points to compare them with"),
)

Curve = Literal["circle", "sphere", "swiss_roll"]
_SLICES = 64


@dataclass
class SingularDensityEstimation(NetworkObjective):
    """A generative model of points that fill no volume; noise on the data decides whether it can be fitted.

    Lower level: the negative evidence bound of a variational autoencoder with a trained Gaussian noise level.
    Without noise on the data (``gaussian_input_noise`` with ``mode: fixed``) that level collapses. Upper level:
    the sliced 1-Wasserstein distance of generated points from clean ones, as a likelihood would degenerate too.

    Args:
        curve: what the points lie on.
        ambient_dim: dimensions of the space.
        examples: training points; there are as many for validation and for the test.
        latent_dim, hidden: of the autoencoder.
        batch_size, learning_rate: of Adam.
        seed: decides which points are drawn.

    Raises:
        SettingError: if the curve does not fit into the space.

    Source: "A Likelihood Approach to Nonparametric Estimation of a Singular Distribution Using Deep Generative
    Models" (arXiv 2105.04046); the toy problem is ours.

    >>> SingularDensityEstimation("sphere").splits()["train"]["inputs"].shape
    torch.Size([512, 8])
    """

    curve: Curve = "circle"
    ambient_dim: int = 8
    examples: int = 512
    latent_dim: int = 2
    hidden: int = 64
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    provides = frozenset(
        {"inputs", "index", "logits", "parameters", "learning_rate", "examples", "samples", "data"}
    )

    def __post_init__(self) -> None:
        self.optimization = Optimization(self.batch_size, "adam", self.learning_rate)
        points = _points(self.curve, self.ambient_dim, 3 * self.examples, self.seed)
        names = ("train", "validation", "test")
        self._splits = {
            name: {"inputs": part, "labels": part} for name, part in zip(names, points.chunk(3), strict=True)
        }
        check_splits(self._splits, self.batch_size, None)

    def network(self) -> nn.Module:
        return _Autoencoder(self.ambient_dim, self.latent_dim, self.hidden)

    def splits(self) -> Mapping[str, Split]:
        return self._splits

    def targets(self, labels: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return labels

    def loss(
        self, outputs: Float[Tensor, "batch dim_plus_one"], targets: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch"]:
        """The negative bound, which the network puts out: it knows the noisy points, the targets are clean."""
        return outputs[:, 0]

    def validation_loss(
        self, outputs: Float[Tensor, "batch dim_plus_one"], labels: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch"]:
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(_SLICES, self.ambient_dim, generator=generator).to(labels)
        return _sliced_wasserstein(outputs[:, 1:], labels, directions).expand(len(labels))

    def quantity(self, name: str, step: Step) -> Any:
        if name == "samples":
            return step.logits[:, 1:]
        return step.targets if name == "data" else super().quantity(name, step)


tasks.register("singular_density_estimation", SingularDensityEstimation)


class _Autoencoder(nn.Module):
    """Puts out, for every example, its negative bound and a generated point.

    Training draws from torch's global generator. In evaluation latent points are the same every time.
    """

    def __init__(self, dim: int, latent: int, hidden: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, dim))
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def forward(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim_plus_one"]:
        mean, log_std = self.encoder(points).chunk(2, dim=1)
        noise, prior = self._draw(points), self._draw(points)
        error = (points - self.decoder(mean + log_std.exp() * noise)).square().sum(dim=1)
        dim = points.shape[1]
        reconstruction = 0.5 * error / (2 * self.log_scale).exp() + dim * (self.log_scale + _HALF_LOG_2PI)
        divergence = (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(dim=1)
        return torch.cat([(reconstruction + divergence)[:, None], self.decoder(prior)], dim=1)

    def _draw(self, points: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch latent"]:
        shape = len(points), self.latent
        if self.training:
            return torch.randn(shape, device=points.device, dtype=points.dtype)
        generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator).to(points.device, points.dtype)


_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _points(curve: Curve, ambient_dim: int, samples: int, seed: int) -> Float[Tensor, "samples ambient_dim"]:
    """Points on a manifold of dimension 1 or 2, rotated into ``ambient_dim`` dimensions.

    The rotation depends on the curve and the dimension only, so that every seed samples the same distribution.
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
    own = points.shape[1]
    if ambient_dim < own:
        raise SettingError("ambient_dim", f"must be at least {own} for a {curve}, got {ambient_dim}")
    frame = torch.linalg.qr(torch.randn(ambient_dim, own, generator=torch.Generator().manual_seed(0)))
    turned: Tensor = points @ frame.Q.T
    return turned


def _sliced_wasserstein(
    first: Float[Tensor, "samples dim"],
    second: Float[Tensor, "samples dim"],
    directions: Float[Tensor, "slices dim"],
) -> Float[Tensor, ""]:
    """Mean 1-Wasserstein distance of the samples projected on every direction (normalised here)."""
    unit = directions / directions.norm(dim=1, keepdim=True)
    projected = [(points @ unit.T).sort(dim=0).values for points in (first, second)]
    distance: Tensor = (projected[0] - projected[1]).abs().mean()
    return distance
