"""The asymptote of a scaling law from three sizes."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="supervision", reference=Reference("Pre-training under Infinite Compute", "2509.14786"), better="min"
)
def scaling_asymptote(losses: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    """The E of ``L(N) = E + A * N ** -alpha`` from the losses at sizes N, k N and k^2 N.

    Returns:
        The limit of the loss; nan where the three losses lie on a line (to rounding), which no such law does.

    Raises:
        ValueError: unless there are exactly three losses.

    Source: form of the law from "Pre-training under Infinite Compute" (arXiv 2509.14786); this is
    Aitken's extrapolation of the three values.

    >>> scaling_asymptote(torch.tensor([3.0, 2.0, 1.5]))
    tensor(1.)
    """
    if losses.shape != (3,):
        raise ValueError(f"the asymptote needs three losses at geometric sizes, got shape {tuple(losses.shape)}.")
    first, second = losses.diff()
    curvature = second - first
    asymptote = losses[2] - second.square() / curvature
    rounding = 4 * torch.finfo(losses.dtype).eps * losses.abs().amax()
    limit: Tensor = asymptote.masked_fill(curvature.abs() <= rounding, torch.nan)
    return limit
