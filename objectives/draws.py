"""Random draws that regularizers share."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor
from selftune.step import Step


def symmetric_beta(step: Step, alpha: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """One draw from Beta(alpha, alpha), differentiable in alpha.

    As G1 / (G1 + G2) of gamma variables, in logarithms, because both would underflow for a small alpha; a gamma
    variable of shape alpha is one of shape alpha + 1 times U ** (1 / alpha).
    """
    shape = alpha.clamp_min(1e-6).expand(2)
    larger = torch._standard_gamma(shape + 1, generator=step.generator)
    first, second = torch.log(larger) + torch.log1p(-step.rand(2)) / shape
    return torch.sigmoid(first - second)
