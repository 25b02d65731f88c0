"""Concentration of a neuron's weights on few frequencies."""

from __future__ import annotations

import torch

from selftune.registries.diagnostics import Diagnostic, diagnostics
from selftune.registries.reference import Reference
from selftune.shapes import Float, Tensor


def inverse_participation_ratio(
    rows: Float[Tensor, "neurons length"], *, order: int = 2
) -> Float[Tensor, "neurons"]:
    """Sum over frequencies 0 to length // 2 of (share of the spectral power) ** order.

    It is 1 for a row that is a pure cosine, bins ** (1 - order) for a flat spectrum, and 0 for a row of zeros. It
    depends neither on the scale of the row nor on cyclic shifts.

    Args:
        order: at least 2.

    Source: "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
    datasets" (arXiv 2310.13061).

    >>> inverse_participation_ratio(torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, 0.0, 0.0, 0.0]]))
    tensor([1.0000, 0.3333])
    """
    # Weight decay leaves neurons so small that their powers would underflow.
    scale = rows.detach().abs().amax(dim=1, keepdim=True)
    spectrum = torch.view_as_real(torch.fft.rfft(rows / torch.where(scale > 0, scale, 1)))
    power = spectrum.square().sum(dim=2)
    total = power.sum(dim=1, keepdim=True)
    return (power / torch.where(total > 0, total, 1)).pow(order).sum(dim=1)


def _mean_of_neurons(neuron_weights: Float[Tensor, "neurons vectors length"], order: int = 2) -> Float[Tensor, ""]:
    """Mean over hidden neurons, each with the mean of its vectors."""
    return inverse_participation_ratio(neuron_weights.flatten(0, 1), order=order).mean()


diagnostics.register(
    "inverse_participation_ratio",
    Diagnostic(
        "inverse_participation_ratio",
        family="structure",
        reference=Reference(
            "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic "
            "datasets",
            "2310.13061",
        ),
        function=_mean_of_neurons,
        needs={"neuron_weights": "neuron_weights"},
        better="max",
        results=(),
        settings={"order": 2},
    ),
)
