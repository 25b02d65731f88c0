"""BEER: consecutive state-action features no more similar than the Bellman equation allows."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.registries.reference import Reference
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

quantities.declare(
    Quantity("next_features", ("batch", "dim"), "float", "features of the following state and action"),
    Quantity("rewards", ("batch",), "float", "rewards between the two"),
)


def bellman_rank(
    features: Float[Tensor, "batch dim"],
    next_features: Float[Tensor, "batch dim"],
    rewards: Float[Tensor, "batch"],
    head_norm_squared: Float[Tensor, ""],
    discount: float | Float[Tensor, "*batch"] = 0.99,
    eps: float = 1e-6,
) -> Float[Tensor, "batch"]:
    """Cosine similarity of consecutive features above the bound that the Bellman equation sets, or zero.

    Gradient reaches ``features`` only, through the cosine; the bound is a constant.

    Args:
        features: penultimate features of the critic.
        next_features: those of the next state and action.
        head_norm_squared: squared norm of the weight of the critic's last layer.
        discount: in (0, 1].
        eps: smallest norm of features.

    Source: "Adaptive Regularization of Representation Rank as an Implicit Constraint of Bellman Equation"
    (arXiv 2404.12754).

    >>> bellman_rank(torch.eye(2), torch.eye(2), torch.tensor([0.0, 1.0]), torch.tensor(1.0), discount=1.0)
    tensor([0.0000, 0.5000])
    """
    next_features = next_features.detach()
    norm = features.norm(dim=-1).clamp_min(eps)
    next_norm = next_features.norm(dim=-1).clamp_min(eps)
    cosine = (features * next_features).sum(dim=-1) / (norm * next_norm)
    with torch.no_grad():
        # a head of zeros predicts no reward at all: 0 / 0 has to be 0
        explained = rewards.square() / torch.clamp_min(head_norm_squared, torch.finfo(features.dtype).tiny)
        bound = (norm.square() + (discount * next_norm).square() - explained) / (2 * discount * norm * next_norm)
    return torch.relu(cosine - bound)


@register
class BellmanRank(Regularizer):
    """Keeps consecutive state-action features no more similar than the Bellman equation allows.

    ``discount`` is the agent's; the last layer is the critic's value head.
    """

    name = "bellman_rank"
    family = "representation"
    kind = "penalty"
    reference = Reference(
        "Adaptive Regularization of Representation Rank as an Implicit Constraint of Bellman Equation",
        "2404.12754",
    )
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-5, 1e-1)), 1e-3),
        Hyperparameter("discount", Interval(0.01, 1.0, sweep=(0.5, 0.999)), 0.99, online=False, smooth=False),
    )
    needs = frozenset({"features", "next_features", "rewards", "head_weight"})

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        head = step.head_weight.detach().square().sum()
        return bellman_rank(step.features, step.next_features, step.rewards, head, self.value(step, "discount"))
