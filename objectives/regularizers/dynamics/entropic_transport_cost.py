"""Cost of entropic optimal transport, with the gradient of the envelope theorem."""

from __future__ import annotations

from selftune.objectives.mathematics.optimal_transport import (
    log_density,
    mean_cost,
    potentials,
    squared_distances,
    uniform_weights,
)

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def entropic_transport_cost(
    cost: Float[Tensor, "n m"],
    source: Float[Tensor, "n"],
    target: Float[Tensor, "m"],
    *,
    epsilon: float | Float[Tensor, ""] = 0.05,
    iterations: int = 200,
) -> Float[Tensor, ""]:
    """``<P, cost> + epsilon KL(P || source target^T)`` of the plan P that Sinkhorn's iterations reach.

    Gradients are those at convergence: P for the cost, the divergence for epsilon, the dual potentials for the
    marginals (up to a constant, which is nothing on the simplex). Nothing is differentiated through iterations.

    Args:
        source, target: probability vectors.
        epsilon: positive.

    Source: "Sinkhorn Distances: Lightspeed Computation of Optimal Transport" (arXiv 1306.0895), with the entropy
    relative to the product of the marginals.

    >>> import torch
    >>> half = torch.tensor([0.5, 0.5])
    >>> entropic_transport_cost(1 - torch.eye(2), half, half, epsilon=1.0)
    tensor(0.3799)
    """
    f, g = potentials(cost, source, target, epsilon, iterations)
    exponent = log_density(cost, f, g, epsilon)
    plan = source.detach()[:, None] * target.detach() * exponent.exp()
    value = (plan * cost).sum() + epsilon * (plan * exponent).sum()
    return value + (source - source.detach()) @ f + (target - target.detach()) @ g


@register
class EntropicTransportCost(Regularizer):
    """Entropic transport cost between a generator's samples and data, for squared Euclidean distances.

    ``epsilon`` is in units of the mean squared distance, so that it does not depend on the data's scale.
    """

    name = "entropic_transport_cost"
    family = "dynamics"
    kind = "penalty"
    reference = Reference("Sinkhorn Distances: Lightspeed Computation of Optimal Transport", "1306.0895")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(1e-3, 100.0)), 1.0),
        Hyperparameter("epsilon", Positive(sweep=(1e-3, 1.0)), 0.05, smooth=False, shared=True),
        Hyperparameter("iterations", Integer(10, 2000), 200, online=False, smooth=False, swept=False),
    )
    needs = frozenset({"samples", "data"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        cost = squared_distances(step.samples, step.data)
        return entropic_transport_cost(
            cost,
            uniform_weights(step.samples),
            uniform_weights(step.data),
            epsilon=self.value(step, "epsilon") * mean_cost(cost),
            iterations=self.bound["iterations"].value,
        )
