"""Dropout on the inputs of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from selftune.objectives.common.start_rules import DROPOUT_RATE

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def dropout(
    inputs: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, "*rate"] = 0.5,
) -> Float[Tensor, "*shape"]:
    """Zeroes entries whose draw is below ``rate`` and divides the others by ``1 - rate``.

    Args:
        rate: in [0, 1); one for all entries, or what broadcasts to them.

    Source: "Improving neural networks by preventing co-adaptation of feature detectors" (arXiv 1207.0580).

    >>> import torch
    >>> dropout(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]), 0.5)
    tensor([0., 2., 2.])
    """
    return inputs * ((uniform >= rate).to(uniform.dtype) / (1 - rate))


@register
class Dropout(LayerNoise):
    """Dropout before layers: by default the input of every layer after the first.

    ``parts`` names layers whose *inputs* are dropped, each part with a rate of its own; ``parts: unit`` gives
    one to every input of a linear layer and every input channel of a convolution. Rates are capped at 0.95,
    because the division by ``1 - rate`` explodes at 1.
    """

    name = "dropout"
    unitwise = True
    family = "supervision"
    reference = Reference(
        "Improving neural networks by preventing co-adaptation of feature detectors", "1207.0580"
    )
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.5, smooth=False, start=DROPOUT_RATE),
    )

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:]

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        return dropout(inputs, step.rand(*inputs.shape, examples=0), per_example(values["rate"], inputs))
