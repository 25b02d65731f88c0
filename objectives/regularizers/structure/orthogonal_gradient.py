"""The gradient without its part along the weights."""

from __future__ import annotations

import torch

from selftune.hyperparameters import Hyperparameter, Integer, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def orthogonal_gradient(
    gradient: Float[Tensor, "*shape"],
    parameter: Float[Tensor, "*shape"],
    *,
    epsilon: float | Float[Tensor, ""] = 1e-30,
) -> Float[Tensor, "*shape"]:
    """The gradient projected orthogonally to the parameter tensor and scaled back to its own norm.

    What is removed only scales the logits once the training data are fitted. A gradient (numerically) parallel to
    the parameter leaves rounding errors, scaled up.

    Args:
        epsilon: positive, added to the denominators.

    Source: "Grokking at the Edge of Numerical Stability" (arXiv 2501.04697, perpGrad).

    >>> orthogonal_gradient(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]))
    tensor([0., 5.])
    """
    along = (parameter * gradient).sum() / (parameter.square().sum() + epsilon)
    orthogonal: Tensor = gradient - along * parameter
    scale: Tensor = torch.linalg.vector_norm(gradient) / (torch.linalg.vector_norm(orthogonal) + epsilon)
    return orthogonal * scale


@register
class OrthogonalGradient(Regularizer):
    """Removes from the gradient of every tensor its part along the tensor, which only scales logits.

    It acts from training step ``start`` on, on the share ``mix`` of the gradient.
    """

    name = "orthogonal_gradient"
    family = "structure"
    kind = "gradient"
    reference = Reference("Grokking at the Edge of Numerical Stability", "2501.04697")
    hyperparameters = (
        Hyperparameter(
            "start", Integer(0, 1_000_000, sweep=(0, 1000)), 0, online=False, smooth=False, shared=True
        ),
        # No loss depends on what happens to its gradient: a response cannot be fitted, only swept.
        Hyperparameter("mix", Unit(), 1.0, online=False, smooth=False, shared=True),
    )
    needs = frozenset({"gradients"})
    acts_from = "start"
    order = "projection"

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        if step.number < self.bound["start"].value:
            return
        for name, gradient in gradients.items():
            projected = orthogonal_gradient(gradient, step.parameters[name].detach())
            gradient.lerp_(projected, self.bound["mix"].value)
