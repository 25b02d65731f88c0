"""A weight matrix as the product of two thin ones, from its truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.networks.inventory import tensors_of
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity(
        "factors",
        None,
        "tensors",
        "list of ((out, rank), (rank, in)) factors of low-rank layers, and the weights they came from",
    ),
)


def low_rank_factorization(
    weight: Float[Tensor, "out in"], *, rank: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, "rank in"]]:
    """Factors ``left`` and ``right`` whose product is the best approximation of the weight of that rank.

    Each carries the square roots of the singular values. Signs are fixed: in each column of ``left`` the entry of
    largest magnitude (the first of equals) is positive.

    Args:
        rank: from 1 to min(out, in).

    Raises:
        ValueError: if the rank is out of range.

    Source: "PELA: Learning Parameter-Efficient Models with Low-Rank Approximation" (arXiv 2310.10700).

    >>> left, right = low_rank_factorization(torch.diag(torch.tensor([4.0, 1.0])), rank=1)
    >>> left, right
    (tensor([[2.],
            [0.]]), tensor([[2., 0.]]))
    """
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(
            f"low_rank_factorization needs a rank from 1 to {min(weight.shape)} for a weight of shape "
            f"{tuple(weight.shape)}, got {rank}."
        )
    vectors, values, covectors = torch.linalg.svd(weight, full_matrices=False)
    vectors, values, covectors = vectors[:, :rank], values[:rank], covectors[:rank]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).squeeze(0)
    roots = values.sqrt() * largest.sign()
    return vectors * roots, roots[:, None] * covectors


def _large(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.out_features >= 10


@register
class LowRankFactorization(Reparameterization):
    """PELA: trains two thin factors of every linear layer in the place of its weight.

    ``parts`` says which layers; by default all linear ones of ten outputs or more. A layer keeps about one
    ``compression_ratio``-th of its weights. ``reference_logits``, ``reference_features`` and
    ``reference_layer_features`` are those of the uncompressed network at the start, so that ``layer_distillation``
    has it as its teacher. On export the factors are multiplied.
    """

    name = "low_rank_factorization"
    family = "structure"
    reference = Reference("PELA: Learning Parameter-Efficient Models with Low-Rank Approximation", "2310.10700")
    hyperparameters = (
        Hyperparameter(
            "compression_ratio", Interval(1.0, sweep=(1.5, 4.0)), 2.0, online=False, smooth=False, shared=True
        ),
    )
    provides = frozenset({"factors", "reference_logits", "reference_features", "reference_layer_features"})
    layer_filter = _large
    freezes = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._teacher: dict[str, Tensor] = {}

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        rows, columns = weight.shape
        rank = int(rows * columns / (float(values["compression_ratio"]) * (rows + columns)))
        left, right = low_rank_factorization(weight, rank=max(1, rank))
        return {"left": left, "right": right}

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        product: Tensor = extra.left @ extra.right
        return product

    def attach(self, network: nn.Module) -> None:
        super().attach(network)
        self._teacher = {name: tensor.detach().clone() for name, tensor in tensors_of(network).items()}
        for layer in self._factorized():
            left, right, weight = _names(layer)
            self._teacher[left] = self._teacher[weight]
            self._teacher[right] = torch.eye(self._teacher[weight].shape[1]).to(self._teacher[weight])

    def _factorized(self) -> list[str]:
        return [layer for layers in self.layers.values() for layer in layers]

    def quantity(self, name: str, step: Step) -> Any:
        if name == "factors":
            return [tuple(step.parameters[key] for key in _names(layer)) for layer in self._factorized()]
        if "_outputs_of_uncompressed" not in step.__dict__:
            step.know(_outputs_of_uncompressed=step.asks.pass_copy(step, self._teacher, step.inputs))
        return getattr(step._outputs_of_uncompressed, name.removeprefix("reference_"))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "teacher": self._teacher}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._teacher = {name: tensor.to(self._teacher[name].device) for name, tensor in state["teacher"].items()}


def _names(layer: str) -> tuple[str, str, str]:
    """Names of the two factors of a layer and of the weight they came from."""
    prefix = f"{layer}.parametrizations.weight" if layer else "parametrizations.weight"
    return f"{prefix}.0.left", f"{prefix}.0.right", f"{prefix}.original"
