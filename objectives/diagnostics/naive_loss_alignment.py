"""How much training only scales the logits: alignment of descent direction and weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from selftune.registries.diagnostics import Diagnostic, diagnostics
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


def naive_loss_alignment(
    gradient: Float[Tensor, "*shape"], parameter: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Cosine between minus the gradient and the parameters, in [-1, 1]; near 1, training only scales the logits.

    For all parameters together, pass their concatenation. The product of the norms counts as at least 1e-12.

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, naive loss minimization).

    >>> naive_loss_alignment(torch.tensor([-3.0, 4.0]), torch.tensor([1.0, 0.0]))
    tensor(0.6000)
    """
    norms = torch.linalg.vector_norm(gradient) * torch.linalg.vector_norm(parameter)
    cosine: Tensor = -(gradient * parameter).sum() / norms.clamp_min(1e-12)
    return cosine


def _of_all(gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Alignment of all trained tensors of a network together, at its last training step."""
    pairs = [(gradient.flatten(), parameters[name].flatten()) for name, gradient in gradients.items()]
    gradient, parameter = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    return naive_loss_alignment(gradient, parameter)


diagnostics.register(
    "naive_loss_alignment",
    Diagnostic(
        "naive_loss_alignment",
        family="structure",
        reference=Reference("Grokking at the Edge of Numerical Stability", "2501.04697"),
        function=_of_all,
        needs={"gradients": "gradients", "parameters": "parameters"},
        better=None,
        results=(),
        settings={},
    ),
)
