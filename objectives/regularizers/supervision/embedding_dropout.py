"""Embedding dropout: whole words are dropped, wherever they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from selftune.objectives.common.start_rules import BALANCED_RATE
from torch import nn

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.networks.inventory import Layer
from selftune.networks.precision import typed_as
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.regularizer import register
from selftune.shapes import Float, Int, Tensor


def embedding_dropout(
    embedded: Float[Tensor, "*positions features"],
    tokens: Int[Tensor, "*positions"],
    uniform: Float[Tensor, "vocabulary"],
    rate: float | Float[Tensor, ""] = 0.1,
) -> Float[Tensor, "*positions features"]:
    """Zeroes the embeddings of tokens whose draw is below ``rate`` and divides the others by ``1 - rate``.

    All occurrences of a token are dropped together, as by a mask on the rows of the table.

    Args:
        embedded: the embeddings of ``tokens``.
        uniform: draws from [0, 1), one per row of the table.
        rate: in [0, 1).

    Source: "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks" (arXiv 1512.05287).

    >>> import torch
    >>> embedding_dropout(torch.ones(3, 1), torch.tensor([0, 1, 0]), torch.tensor([0.2, 0.9]), 0.5).flatten()
    tensor([0., 2., 0.])
    """
    scale = (uniform >= rate).to(uniform.dtype) / (1 - rate)
    return embedded * scale[tokens].unsqueeze(-1)


@register
class EmbeddingDropout(LayerNoise):
    """Drops rows of embeddings where they are looked up, by one draw per row and training pass.

    By default of every ``nn.Embedding``; ``parts`` names some, each part with a rate of its own. A decoder that
    is tied to the table keeps all of its rows. Rates are capped at 0.95, because the division by ``1 - rate``
    explodes at 1.
    """

    name = "embedding_dropout"
    family = "supervision"
    reference = Reference(
        "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks", "1512.05287"
    )
    hyperparameters = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.1, smooth=False, shared=True, start=BALANCED_RATE),
    )
    needs = frozenset({"embeddings"})
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = staticmethod(
        lambda module: isinstance(module, nn.Embedding)
    )

    def obstacle(self, layer: Layer) -> str:
        if not layer.calls:
            return "its forward never runs"
        return "" if layer.by_position else "its input is given by name"

    def attach(self, network: nn.Module) -> None:
        for label, layers in self.layers.items():
            for layer in layers:
                network.get_submodule(layer).register_forward_hook(_Lookup(self, label))


class _Lookup:
    """The hook after one embedding; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: EmbeddingDropout, label: str) -> None:
        self.regularizer = regularizer
        self.label = label

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor | None:
        step = self.regularizer.step
        if step is None:
            return None
        table: Any = module.weight
        rate = self.regularizer.values_of(step, self.label)["rate"]
        return typed_as(embedding_dropout(output, arguments[0], step.rand(len(table)), rate), output)
