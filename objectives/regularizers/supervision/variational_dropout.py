"""Variational dropout: one mask for all positions of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.objectives.common.start_rules import BALANCED_RATE

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.networks.inventory import Layer
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def variational_dropout(
    inputs: Float[Tensor, "batch *positions features"],
    uniform: Float[Tensor, "batch features"],
    rate: float | Float[Tensor, "*rate"] = 0.5,
) -> Float[Tensor, "batch *positions features"]:
    """Zeroes features whose draw is below ``rate``, at all positions, and divides the others by ``1 - rate``.

    Also called locked dropout. Without positions it is dropout.

    Args:
        uniform: draws from [0, 1), one per example and feature.
        rate: in [0, 1); one for all or one per example.

    Source: "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks" (arXiv 1512.05287).

    >>> import torch
    >>> variational_dropout(torch.ones(1, 2, 2), torch.tensor([[0.1, 0.7]]), 0.5)
    tensor([[[0., 2.],
             [0., 2.]]])
    """
    rate = per_example(rate, uniform)
    scale: Tensor = (uniform >= rate).to(uniform.dtype) / (1 - rate)
    return inputs * scale.view(len(scale), *([1] * (inputs.ndim - 2)), scale.shape[-1])


@register
class VariationalDropout(LayerNoise):
    """Dropout before layers, locked over a sequence: by default before every layer after the first.

    ``parts`` names layers whose *inputs* are dropped, each part with a rate of its own: those of the first
    recurrent layer for input dropout, of the others for hidden dropout, of the decoder for output dropout. The
    batch is the first axis. Rates are capped at 0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "variational_dropout"
    family = "supervision"
    reference = Reference(
        "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", "1512.05287"
    )
    hyperparameters = (Hyperparameter("rate", Interval(0.0, 0.95), 0.5, smooth=False, start=BALANCED_RATE),)

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:]

    def obstacle(self, layer: Layer) -> str:
        why = super().obstacle(layer)
        return why or ("" if layer.batch_axis == 0 else "the first axis of what it sees is not the batch")

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        uniform = step.rand(inputs.shape[0], inputs.shape[-1], examples=0)
        return variational_dropout(inputs, uniform, values["rate"])
