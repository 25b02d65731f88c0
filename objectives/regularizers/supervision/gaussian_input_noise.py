"""Gaussian noise on the inputs."""

from __future__ import annotations

from typing import Any

import torch
from selftune.objectives.common.start_rules import BALANCED_SIGMA, balanced_sigma

from selftune.hyperparameters import Choice, Hyperparameter, Interval, Positive, StartRule
from selftune.lower_level.start_values import Setup
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def gaussian_input_noise(
    inputs: Float[Tensor, "*shape"],
    noise: Float[Tensor, "*shape"],
    sigma: float | Float[Tensor, "*sigma"] = 0.1,
) -> Float[Tensor, "*shape"]:
    """``inputs + sigma * noise``; for small sigma this penalises the squared input gradient.

    Source: "Training with Noise is Equivalent to Tikhonov Regularization" (Bishop, 1995).

    >>> gaussian_input_noise(torch.zeros(2), torch.ones(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    return inputs + sigma * noise


def _balanced(setup: Setup) -> float:
    """The sigma at which the noise itself, ``sigma * examples ** -power``, is in balance."""
    power = setup.start_of("gaussian_input_noise", "power") or 0.0
    return balanced_sigma(setup) * (setup.examples**power if power else 1.0)


_BALANCED = StartRule(_balanced, BALANCED_SIGMA.source)


@register
class GaussianInputNoise(Regularizer):
    """Adds noise of standard deviation ``sigma * examples ** -power`` to the inputs.

    ``mode: fresh`` draws anew at every step; ``mode: fixed`` gives every training example one draw that never
    changes, so that the perturbed data set is a fixed sample; replayed examples always get new draws.
    """

    name = "gaussian_input_noise"
    family = "supervision"
    kind = "augment"
    reference = Reference("Training with Noise is Equivalent to Tikhonov Regularization (Bishop, 1995)")
    hyperparameters = (
        Hyperparameter("sigma", Positive(sweep=(1e-3, 1.0)), 0.1, start=_BALANCED),
        Hyperparameter("mode", Choice(("fresh", "fixed")), "fresh", online=False, smooth=False),
        Hyperparameter("power", Interval(0.0, 1.0), 0.0, online=False, swept=False),
    )
    needs = frozenset({"inputs", "index", "examples", "real_inputs"})
    order = "noise"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._fixed: Tensor | None = None

    def batch(self, step: Step) -> None:
        if self.value(step, "mode") == "fresh":
            noise = step.randn(*step.inputs.shape)
        else:
            appended = step.randn(len(step.inputs) - len(step.index), *step.inputs.shape[1:])
            noise = torch.cat([self._table(step)[step.index], appended.to(step.inputs.dtype)])
        sigma = self.value(step, "sigma") * step.examples ** -self.value(step, "power")
        step.inputs = gaussian_input_noise(step.inputs, noise, per_example(sigma, step.inputs))

    def _table(self, step: Step) -> Tensor:
        if self._fixed is None:  # drawn once, from a seed of its own: the same after every restart
            generator = torch.Generator().manual_seed(0)
            shape = (step.examples, *step.inputs.shape[1:])
            self._fixed = torch.randn(shape, generator=generator).to(step.inputs)
        return self._fixed
