"""Random draws that regularizers share."""

from __future__ import annotations

import math

import torch

from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def symmetric_beta(step: Step, alpha: Float[Tensor, ""], *shape: int) -> Float[Tensor, "*shape"]:
    """Draws from Beta(alpha, alpha), by default one of shape (), differentiable in alpha.

    As G1 / (G1 + G2) of gamma variables, in logarithms, because both would underflow for a small alpha; a gamma
    variable of shape alpha is one of shape alpha + 1 times U ** (1 / alpha).
    """
    alpha = alpha.clamp_min(1e-6).expand(2, *shape)
    larger = torch._standard_gamma(alpha + 1, generator=step.generator)
    first, second = torch.log(larger) + torch.log1p(-step.rand(2, *shape)) / alpha
    return torch.sigmoid(first - second)


def truncated_normal(step: Step, *shape: int) -> Float[Tensor, "*shape"]:
    """Standard normal draws, all of them inside [-2, 2]; torch's own function looks at what it has drawn."""
    inside = math.erf(2 / math.sqrt(2))
    return math.sqrt(2) * torch.erfinv(inside * (2 * step.rand(*shape) - 1))
