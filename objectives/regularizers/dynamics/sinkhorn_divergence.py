"""Entropic optimal transport without its bias: a divergence between two samples."""

from __future__ import annotations

from selftune.objectives.mathematics.optimal_transport import mean_cost, squared_distances, uniform_weights
from selftune.objectives.regularizers.dynamics.entropic_transport_cost import entropic_transport_cost

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def sinkhorn_divergence(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    source: Float[Tensor, "n"] | None = None,
    target: Float[Tensor, "m"] | None = None,
    epsilon: float | Float[Tensor, ""] = 0.05,
    iterations: int = 200,
) -> Float[Tensor, ""]:
    """``OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2`` for squared Euclidean costs; zero where both samples agree.

    Args:
        source, target: probability vectors of the points; uniform by default.
        epsilon: positive, in units of squared distance.

    Source: "Learning Generative Models with Sinkhorn Divergences" (arXiv 1706.00292).

    >>> import torch
    >>> sinkhorn_divergence(torch.zeros(3, 2), torch.ones(2, 2))
    tensor(2.)
    """
    source = uniform_weights(x) if source is None else source
    target = uniform_weights(y) if target is None else target

    def transport(p: Tensor, q: Tensor, of_p: Tensor, of_q: Tensor) -> Tensor:
        return entropic_transport_cost(squared_distances(p, q), of_p, of_q, epsilon=epsilon, iterations=iterations)

    within = transport(x, x, source, source) + transport(y, y, target, target)
    return transport(x, y, source, target) - 0.5 * within


@register
class SinkhornDivergence(Regularizer):
    """Sinkhorn divergence between a generator's samples and data.

    ``epsilon`` is in units of the mean squared distance between both, so that it does not depend on their scale.
    """

    name = "sinkhorn_divergence"
    family = "dynamics"
    kind = "penalty"
    reference = Reference("Learning Generative Models with Sinkhorn Divergences", "1706.00292")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-3, 100.0)), 1.0),
        Hyperparameter("epsilon", Positive(sweep=(1e-3, 10.0)), 0.05, smooth=False, shared=True),
        Hyperparameter("iterations", Integer(10, 2000), 200, online=False, smooth=False, swept=False),
    )
    needs = frozenset({"samples", "data"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        scale = mean_cost(squared_distances(step.samples, step.data))
        return sinkhorn_divergence(
            step.samples,
            step.data,
            epsilon=self.value(step, "epsilon") * scale,
            iterations=self.bound["iterations"].value,
        )
