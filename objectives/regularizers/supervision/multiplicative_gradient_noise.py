"""Multiplicative gradient noise: random weights of mean one on the examples' gradients."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, Interval
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def multiplicative_gradient_noise(
    per_sample_gradients: Float[Tensor, "batch d"],
    noise: Float[Tensor, "batch"],
    sigma: float | Float[Tensor, "*sigma"] = 1.0,
) -> Float[Tensor, "d"]:
    """Mean of the gradients, each multiplied by ``1 + sigma * noise``.

    The same as weights ``1 + sigma * noise`` on the examples' losses. ``sigma^2 = large / small - 1`` gives a
    large batch about the noise of a small one.

    Args:
        noise: draws from N(0, 1), one per example.
        sigma: at least 0.

    Source: "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural
    Networks" (arXiv 1705.08741).

    >>> import torch
    >>> multiplicative_gradient_noise(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 0.0]), sigma=0.5)
    tensor([2.2500])
    """
    weights = 1 + sigma * noise
    return weights @ per_sample_gradients / len(per_sample_gradients)


@register
class MultiplicativeGradientNoise(Regularizer):
    """Multiplies every example's loss, and so its gradient, by ``1 + sigma * noise``."""

    name = "multiplicative_gradient_noise"
    family = "supervision"
    kind = "gradient"
    reference = Reference(
        "Train Longer, Generalize Better: Closing the Generalization Gap in Large Batch Training of Neural"
        " Networks",
        "1705.08741",
    )
    hyperparameters = (Hyperparameter("sigma", Interval(low=0.0, sweep=(0.0, 5.0)), 1.0),)
    needs = frozenset({"losses"})

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        sigma = self.value(step, "sigma")
        noisy: Tensor = losses * (1 + sigma * step.randn(len(losses)))
        return noisy
