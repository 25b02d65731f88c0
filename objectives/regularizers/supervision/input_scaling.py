"""Input scaling: every example is multiplied by a number of its own."""

from __future__ import annotations

from selftune.objectives.common.magnitude import SELF_TUNING_NETWORKS

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def input_scaling(
    inputs: Float[Tensor, "batch *shape"], factor: float | Float[Tensor, "batch"]
) -> Float[Tensor, "batch *shape"]:
    """``factor * inputs``, with one factor for all or one per example.

    Source: "Self-Tuning Networks: Bilevel Optimization of Hyperparameters using Structured Best-Response
    Functions" (arXiv 1903.03088), its hyperparameters of convolutional networks.

    >>> import torch
    >>> input_scaling(torch.ones(2, 2), torch.tensor([1.0, 0.5]))
    tensor([[1.0000, 1.0000],
            [0.5000, 0.5000]])
    """
    scaled: Tensor = per_example(factor, inputs) * inputs
    return scaled


@register
class InputScaling(Regularizer):
    """Multiplies every example by a factor that is uniform in ``[1 / (1 + magnitude), 1 + magnitude]``.

    Unlike ``brightness`` it cuts nothing off and works on any inputs of real numbers.
    """

    name = "input_scaling"
    family = "supervision"
    kind = "augment"
    reference = SELF_TUNING_NETWORKS
    hyperparameters = (Hyperparameter("magnitude", Interval(0.0, 1.0, sweep=(0.0, 0.3)), 0.1),)
    needs = frozenset({"inputs", "real_inputs"})
    order = "noise"

    def batch(self, step: Step) -> None:
        most = 1 + self.value(step, "magnitude")
        factor = 1 / most + (most - 1 / most) * step.rand(step.size)
        step.inputs = input_scaling(step.inputs, factor.to(step.inputs))
