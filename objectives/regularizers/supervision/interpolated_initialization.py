"""Interpolated initialisation: a student that starts near its teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from selftune.hyperparameters import Hyperparameter, Unit
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.shapes import Float, Tensor


def interpolated_initialization(
    teacher_parameter: Float[Tensor, "*shape"],
    random_parameter: Float[Tensor, "*shape"],
    alpha: float | Float[Tensor, ""],
) -> Float[Tensor, "*shape"]:
    """``((1 - alpha) * teacher + alpha * random) / sqrt(alpha^2 + (1 - alpha)^2)``.

    The divisor keeps the variance of two independent initialisations of one scale.

    Args:
        teacher_parameter: no gradient flows to it.
        alpha: distance from the teacher, in [0, 1]; 1 gives an independent student.

    Source: "Random Teachers are Good Teachers" (arXiv 2302.12091).

    >>> import torch
    >>> interpolated_initialization(torch.tensor([3.0]), torch.tensor([4.0]), alpha=0.0)
    tensor([3.])
    """
    scale = (alpha**2 + (1 - alpha) ** 2) ** 0.5
    return ((1 - alpha) * teacher_parameter.detach() + alpha * random_parameter) / scale


@register
class InterpolatedInitialization(Regularizer):
    """Starts between the network that the objective builds and a freshly drawn one.

    ``alpha: 0`` keeps what the objective builds, such as pretrained weights; ``alpha: 1`` starts afresh. Buffers
    stay as they are. To start near a random teacher, set the ``alpha`` of ``random_teacher``.
    """

    name = "interpolated_initialization"
    family = "supervision"
    kind = "reparam"
    reference = Reference("Random Teachers are Good Teachers", "2302.12091")
    hyperparameters = (Hyperparameter("alpha", Unit(), 1.0, online=False, smooth=False, shared=True),)
    order = "problem"

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        self._objective = objective

    def attach(self, network: nn.Module) -> None:
        alpha = self.bound["alpha"].value
        _join(
            network, self._objective.network(), lambda own, drawn: interpolated_initialization(own, drawn, alpha)
        )


@torch.no_grad()
def _join(network: nn.Module, plain: nn.Module, join: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replaces every parameter of a network by ``join`` of it and that of a plain network."""
    for name, other in plain.named_parameters():
        owner, _, leaf = name.rpartition(".")
        module = network.get_submodule(owner)
        own: Tensor = getattr(module, leaf)
        joined = join(own, other.to(own.device))
        if parametrize.is_parametrized(module, leaf):
            setattr(module, leaf, joined)
        else:
            own.copy_(joined)
