"""Share of examples whose softmax has collapsed to one class in floating point."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import diagnostic
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


@diagnostic(
    family="structure",
    reference=Reference("Grokking at the Edge of Numerical Stability", "2501.04697"),
    needs={"logits": "logits"},
    better="min",
)
def softmax_collapse(
    logits: Float[Tensor, "batch classes"], *, precision: torch.dtype = torch.float32
) -> Float[Tensor, ""]:
    """Share of examples whose softmax denominator equals its largest term exactly; in [0, 1].

    Where these are predicted right, loss and gradient are exactly zero, and training stops.

    Args:
        precision: floating-point type in which the softmax is taken.

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, Softmax Collapse).

    >>> softmax_collapse(torch.tensor([[0.0, 0.0], [100.0, 0.0]]))
    tensor(0.5000)
    """
    logits = logits.detach().to(precision)
    denominators = (logits - logits.amax(dim=1, keepdim=True)).exp().sum(dim=1)
    return (denominators == 1).to(precision).mean()
