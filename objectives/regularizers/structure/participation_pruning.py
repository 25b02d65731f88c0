"""Pruning of the neurons that memorize: those with the smallest inverse participation ratio."""

from __future__ import annotations

from selftune.objectives.regularizers.structure.magnitude_pruning import magnitude_pruning

from selftune.shapes import Bool, Float, Tensor


def participation_pruning(
    participation: Float[Tensor, "neurons"], *, fraction: float | Float[Tensor, ""]
) -> Bool[Tensor, "neurons"]:
    """Mask of the hidden neurons to keep (True): all but the floor(fraction * neurons) least participating.

    Of equal ratios the smaller index goes first.

    Args:
        participation: inverse participation ratio of every neuron, in [0, 1].
        fraction: in [0, 1].

    Source: "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic
    datasets" (arXiv 2310.13061, section on pruning).

    >>> import torch
    >>> participation_pruning(torch.tensor([0.9, 0.1, 0.5, 0.2]), fraction=0.5)
    tensor([ True, False,  True, False])
    """
    # The ratios are not negative, so that ranking them is ranking their magnitudes.
    return magnitude_pruning(participation, sparsity=fraction)
