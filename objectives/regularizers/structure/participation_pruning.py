"""Pruning of the neurons that memorize: those with the smallest inverse participation ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.objectives.common.counts import Count
from selftune.objectives.diagnostics.inverse_participation_ratio import inverse_participation_ratio
from selftune.objectives.regularizers.structure.magnitude_pruning import magnitude_pruning

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
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


@register
class ParticipationPruning(Regularizer):
    """Sets the weights of the hidden neurons that memorize to zero, from training step ``start`` on.

    These are the share ``fraction`` of the neurons of a two-layer network whose weights are least concentrated on
    one frequency.
    """

    name = "participation_pruning"
    family = "structure"
    kind = "proximal"
    reference = Reference(
        "To grok or not to grok: Disentangling generalization and memorization on corrupted algorithmic datasets",
        "2310.13061",
    )
    hyperparameters = (
        Hyperparameter("fraction", Unit(sweep=(0.05, 0.9)), 0.3, smooth=False, shared=True),
        Hyperparameter("start", Count(0, 10_000_000, sweep=(0, 1000)), 0, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"parameters", "neuron_weights"})
    acts_from = "start"
    per_layer = True

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[0], layers[-1]

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        if step.number < values["start"]:
            return parameter
        neurons, vectors, length = step.neuron_weights.shape
        ratios = inverse_participation_ratio(step.neuron_weights.flatten(0, 1)).view(neurons, vectors)
        keep = participation_pruning(ratios.mean(dim=1), fraction=values["fraction"])
        first = parameter.shape == (neurons, (vectors - 1) * length)
        return parameter * (keep[:, None] if first else keep)
