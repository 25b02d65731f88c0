"""Regularization: what a regularizer is and declares, what a training step offers it, how several act as one."""

from selftune.registries.reference import Reference
from selftune.regularization.composition import Regularizers
from selftune.regularization.decorators import aggregator, augment, gradient, penalty, proximal, target
from selftune.regularization.layer_noise import LayerNoise
from selftune.regularization.quantity import Quantity
from selftune.regularization.regularizer import Regularizer, register, regularizers
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step, per_example
from selftune.regularization.step_quantities import quantities

__all__ = [
    "LayerNoise",
    "Quantity",
    "Reference",
    "Regularizer",
    "Regularizers",
    "Reparameterization",
    "Step",
    "aggregator",
    "augment",
    "gradient",
    "penalty",
    "per_example",
    "proximal",
    "quantities",
    "register",
    "regularizers",
    "target",
]
