"""Stochastic depth: residual branches skipped at random."""

from __future__ import annotations

from typing import Any

from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter, Interval, StartRule
from selftune.networks.precision import typed_as
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import per_example
from selftune.shapes import Float, Tensor


def stochastic_depth(
    residual: Float[Tensor, "batch *shape"],
    uniform: Float[Tensor, "batch"],
    rate: float | Float[Tensor, "*rate"],
) -> Float[Tensor, "batch *shape"]:
    """Zeroes an example's whole residual branch where its draw is below ``rate``, else divides by ``1 - rate``.

    The paper scales at test time instead; the expectation is the same.

    Args:
        uniform: draws from [0, 1), one per example.
        rate: in [0, 1); one for all or one per example. Under the linear rule block l of L gets ``rate * l / L``.

    Source: "Deep Networks with Stochastic Depth" (arXiv 1603.09382, equations 2 and 4).

    >>> import torch
    >>> stochastic_depth(torch.ones(2, 2), torch.tensor([0.1, 0.9]), 0.5)
    tensor([[0., 0.],
            [2., 2.]])
    """
    scale = (uniform >= rate).to(residual.dtype) / (1 - rate)
    scaled: Tensor = residual * per_example(scale, residual)
    return scaled


@register
class StochasticDepth(Regularizer):
    """Skips residual branches at random, example by example: modules whose last name component is ``branch``.

    ``rate`` is that of the deepest branch; ``rule: linear`` lets rates grow linearly with depth, ``constant``
    gives all branches the same. Rates are capped at 0.95, because the division by ``1 - rate`` explodes at 1.
    """

    name = "stochastic_depth"
    family = "supervision"
    kind = "augment"
    reference = Reference("Deep Networks with Stochastic Depth", "1603.09382")
    hyperparameters = (
        Hyperparameter(
            "rate",
            Interval(0.0, 0.95),
            0.1,
            smooth=False,
            start=StartRule(0.5, "Deep Networks with Stochastic Depth (1603.09382)"),
        ),
        Hyperparameter("rule", Choice(("linear", "constant")), "linear", online=False, smooth=False),
    )
    needs = frozenset({"branches"})

    def attach(self, network: nn.Module) -> None:
        branches = [m for name, m in network.named_modules() if name.rpartition(".")[2] == "branch"]
        linear = self.bound["rule"].value == "linear"
        for depth, branch in enumerate(branches, start=1):
            branch.register_forward_hook(_Skip(self, depth / len(branches) if linear else 1.0))


class _Skip:
    """The hook after one branch; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: StochasticDepth, share: float) -> None:
        self.regularizer = regularizer
        self.share = share

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        step = self.regularizer.step
        if step is None:
            return None
        rate = self.share * self.regularizer.value(step, "rate")
        return typed_as(stochastic_depth(output, step.rand(len(output), examples=0), rate), output)
