"""VICReg: invariance between views, variance of every coordinate, covariance between coordinates."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.decorators import penalty
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

_REFERENCE = Reference(
    "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", "2105.04906"
)


@penalty(
    family="representation",
    reference=_REFERENCE,
    strength=Positive(sweep=(1.0, 50.0)),
    default=25.0,
    needs={"view_a": "view_a", "view_b": "view_b"},
)
def vicreg_invariance(
    view_a: Float[Tensor, "batch dim"], view_b: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch"]:
    """Mean squared difference between the embeddings of two views, averaged over coordinates.

    The published weight 25 belongs to the average, which the authors' code takes; the paper's text sums.

    Source: "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning" (arXiv 2105.04906,
    equation 5).

    >>> vicreg_invariance(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([2.])
    """
    return (view_a - view_b).square().mean(dim=-1)


def vicreg_variance(
    features: Float[Tensor, "n dim"], target_std: float | Float[Tensor, ""] = 1.0, eps: float = 1e-4
) -> Float[Tensor, ""]:
    """How far the standard deviations of the coordinates fall short of ``target_std`` on average.

    Variances divide by n - 1. Of two views the published loss takes the mean.

    Args:
        target_std: positive.
        eps: positive, added to the variances; keeps the gradient of constant features finite.

    Raises:
        ValueError: if there is a single row.

    Source: "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning" (arXiv 2105.04906,
    equations 1 and 2).

    >>> vicreg_variance(torch.zeros(4, 3), target_std=1.0, eps=0.25)
    tensor(0.5000)
    """
    _check_rows(features)
    deviations = torch.sqrt(features.var(dim=0) + eps)
    return torch.relu(target_std - deviations).mean()


def vicreg_covariance(features: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """Sum of the squared covariances between different coordinates, divided by their number.

    Covariances divide by n - 1. Of two views the published loss takes the sum.

    Raises:
        ValueError: if there is a single row.

    Source: "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning" (arXiv 2105.04906,
    equations 3 and 4).

    >>> vicreg_covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    tensor(4.)
    """
    _check_rows(features)
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / (len(features) - 1)
    itself = torch.eye(len(covariance), dtype=torch.bool, device=covariance.device)
    return covariance.masked_fill(itself, 0).square().sum() / len(covariance)


def _check_rows(features: Tensor) -> None:
    if len(features) < 2:
        raise ValueError(f"a variance needs at least 2 rows, got {len(features)}")


@register
class VicregVariance(Regularizer):
    """How far the standard deviations of the embeddings fall short of a target, averaged over both views."""

    name = "vicreg_variance"
    family = "representation"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1.0, 50.0)), 25.0),
        Hyperparameter("target_std", Positive(sweep=(0.1, 2.0)), 1.0, shared=True),
    )
    needs = frozenset({"view_a", "view_b"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        target = self.value(step, "target_std")
        return 0.5 * (vicreg_variance(step.view_a, target) + vicreg_variance(step.view_b, target))


@register
class VicregCovariance(Regularizer):
    """Squared covariances between different coordinates of the embeddings, summed over both views."""

    name = "vicreg_covariance"
    family = "representation"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (Hyperparameter("strength", Positive(sweep=(0.01, 10.0)), 1.0),)
    needs = frozenset({"view_a", "view_b"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        return vicreg_covariance(step.view_a) + vicreg_covariance(step.view_b)
