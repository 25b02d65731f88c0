"""Spatial dropout: dropout of whole channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from selftune.objectives.common.start_rules import BALANCED_RATE
from torch import nn

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def spatial_dropout(
    inputs: Float[Tensor, "batch channels *spatial"],
    uniform: Float[Tensor, "batch channels"],
    rate: float | Float[Tensor, "*rate"] = 0.1,
) -> Float[Tensor, "batch channels *spatial"]:
    """Zeroes whole feature maps whose draw is below ``rate`` and divides the others by ``1 - rate``.

    Args:
        uniform: draws from [0, 1), one per map.
        rate: in [0, 1); one for all, one per example, or what broadcasts to the draws.

    Source: "Efficient Object Localization Using Convolutional Networks" (arXiv 1411.4280, section 3.2).

    >>> import torch
    >>> spatial_dropout(torch.ones(1, 2, 3), torch.tensor([[0.1, 0.7]]), 0.5)
    tensor([[[0., 0., 0.],
             [2., 2., 2.]]])
    """
    rate = per_example(rate, uniform)
    scale = (uniform >= rate).to(inputs.dtype) / (1 - rate)
    return inputs * scale.view(*scale.shape, *([1] * (inputs.ndim - 2)))


@register
class SpatialDropout(LayerNoise):
    """Dropout of whole feature maps after convolutions; ``parts`` names layers, each with a rate of its own.

    Rates are capped at 0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "spatial_dropout"
    unitwise = True
    family = "supervision"
    reference = Reference("Efficient Object Localization Using Convolutional Networks", "1411.4280")
    hyperparameters = (Hyperparameter("rate", Interval(0.0, 0.95), 0.1, smooth=False, start=BALANCED_RATE),)
    needs = frozenset({"images"})
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = staticmethod(
        lambda module: isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    )

    def on_output(self, outputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        rate = values["rate"].flatten(1) if self.per_unit else values["rate"]
        return spatial_dropout(outputs, step.rand(*outputs.shape[:2], examples=0), rate)
