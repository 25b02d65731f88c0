"""Dropout on the inputs of layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularizer import Reference, Regularizer, per_example, register
from selftune.shapes import Float, Tensor


def dropout(
    inputs: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, "*rate"] = 0.5,
) -> Float[Tensor, "*shape"]:
    """Zeroes entries whose draw is below ``rate`` and divides the others by ``1 - rate``.

    Args:
        rate: in [0, 1); one for all entries or one broadcastable per example.

    >>> import torch
    >>> dropout(torch.ones(3), torch.tensor([0.1, 0.5, 0.9]), 0.5)
    tensor([0., 2., 2.])
    """
    return inputs * ((uniform >= rate).to(uniform.dtype) / (1 - rate))


@register
class Dropout(Regularizer):
    """Dropout before layers: by default the input of every layer after the first.

    ``parts`` names layers whose *inputs* are dropped, each part with a rate of its own. Rates are capped at
    0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "dropout"
    family = "supervision"
    kind = "augment"
    reference = Reference(
        "Improving neural networks by preventing co-adaptation of feature detectors", "1207.0580"
    )
    hyperparameters = (Hyperparameter("rate", Interval(0.0, 0.95), 0.5, smooth=False),)
    per_layer = True

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:]

    def attach(self, network: nn.Module) -> None:
        for label, layers in self.layers.items():
            for layer in layers:
                network.get_submodule(layer).register_forward_pre_hook(_DropInputs(self, label))


class _DropInputs:
    """The hook before one layer; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: Dropout, label: str) -> None:
        self.regularizer = regularizer
        self.label = label

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        step = self.regularizer.step
        if step is None:
            return None
        inputs, *others = arguments
        rate = self.regularizer.value_by_part(step, "rate")[self.label]
        return (dropout(inputs, step.rand(*inputs.shape), per_example(rate, inputs)), *others)
