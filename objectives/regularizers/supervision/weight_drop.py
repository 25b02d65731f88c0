"""Weight drop: DropConnect on the hidden-to-hidden weights of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from selftune.objectives.common.start_rules import BALANCED_RATE
from torch import nn
from torch.nn.utils import parametrize

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.networks.inventory import Layer
from selftune.networks.weight_masks import mask_weights, unmask_weights
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.shapes import Float, Tensor


def weight_drop(
    weight: Float[Tensor, "rows hidden"],
    uniform: Float[Tensor, "rows hidden"],
    rate: float | Float[Tensor, ""] = 0.5,
) -> Float[Tensor, "rows hidden"]:
    """Zeroes hidden-to-hidden weights whose draw is below ``rate`` and divides the others by ``1 - rate``.

    One mask serves all time steps of a sequence, which dropout of hidden states within a recurrence would not do.

    Args:
        uniform: draws from [0, 1), one per weight and forward pass.
        rate: in [0, 1).

    Source: "Regularizing and Optimizing LSTM Language Models" (arXiv 1708.02182, section 2).

    >>> import torch
    >>> weight_drop(torch.ones(1, 3), torch.tensor([[0.1, 0.5, 0.9]]), 0.5)
    tensor([[0., 2., 2.]])
    """
    return weight * ((uniform >= rate).to(uniform.dtype) / (1 - rate))


@register
class WeightDrop(LayerNoise):
    """Drops hidden-to-hidden weights of recurrent layers, by one draw per weight and training pass.

    By default in every ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``; ``parts`` names some, each part with a rate of its
    own. Evaluation uses all weights. Rates are capped at 0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "weight_drop"
    family = "supervision"
    reference = Reference("Regularizing and Optimizing LSTM Language Models", "1708.02182")
    hyperparameters = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.5, smooth=False, shared=True, start=BALANCED_RATE),
    )
    needs = frozenset({"recurrent_layers"})
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = staticmethod(
        lambda module: isinstance(module, nn.RNNBase)
    )

    def obstacle(self, layer: Layer) -> str:
        if layer.parametrized:
            return "its weights are computed by torch.nn.utils.parametrize already"
        if layer.hooked:
            return "its weights are computed by a hook of torch.nn.utils already"
        return "" if layer.calls else "its forward never runs"

    def attach(self, network: nn.Module) -> None:
        for label, layers in self.layers.items():
            for layer in layers:
                module = network.get_submodule(layer)
                assert not parametrize.is_parametrized(module)
                module.register_forward_pre_hook(_Masking(self, label))
                module.register_forward_hook(_unmask, always_call=True)


class _Masking:
    """The hook before one recurrent layer; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: WeightDrop, label: str) -> None:
        self.regularizer = regularizer
        self.label = label

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        step = self.regularizer.step
        if step is None:
            return
        rate = self.regularizer.values_of(step, self.label)["rate"]
        names = [name for name in module._parameters if name.startswith("weight_hh")]
        uniform = {name: step.rand(*getattr(module, name).shape) for name in names}
        mask_weights(module, {name: weight_drop(u.new_ones(()), u, rate) for name, u in uniform.items()})


def _unmask(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
    unmask_weights(module)
