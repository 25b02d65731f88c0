"""Gaussian dropout: multiplicative noise of dropout's mean and variance, differentiable in its rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from selftune.objectives.common.start_rules import BALANCED_RATE

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def gaussian_dropout(
    inputs: Float[Tensor, "*shape"],
    noise: Float[Tensor, "*shape"],
    rate: float | Float[Tensor, "*rate"] = 0.5,
) -> Float[Tensor, "*shape"]:
    """``inputs * (1 + sqrt(rate / (1 - rate)) * noise)``: factors of dropout's mean, one, and of its variance.

    Args:
        noise: draws from N(0, 1).
        rate: of the dropout with that variance, in [0, 1); one for all entries, or what broadcasts to them.

    Source: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (Srivastava et al., 2014, section
    10).

    >>> import torch
    >>> gaussian_dropout(torch.ones(2), torch.tensor([1.0, -0.5]), 0.5)
    tensor([2.0000, 0.5000])
    """
    odds = rate / (1 - rate)
    scale = odds.sqrt() if isinstance(odds, Tensor) else odds**0.5
    return inputs * (1 + scale * noise)


@register
class GaussianDropout(LayerNoise):
    """Gaussian noise on what layers see, by default every layer after the first, as strong as dropout's.

    Its rate is in the loss by a differentiable path, which dropout's is not: so implicit differentiation tunes it,
    too. ``parts`` names layers whose *inputs* are multiplied, each part with a rate of its own; ``parts: unit``
    gives one to every input of a linear layer and every input channel of a convolution. Rates are capped at 0.95.
    """

    name = "gaussian_dropout"
    family = "supervision"
    unitwise = True
    reference = Reference(
        "Dropout: A Simple Way to Prevent Neural Networks from Overfitting (Srivastava et al., 2014)"
    )
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.5, start=BALANCED_RATE),
    )

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[1:]

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        noise = step.randn(*inputs.shape, examples=0)
        return gaussian_dropout(inputs, noise, per_example(values["rate"], inputs))
