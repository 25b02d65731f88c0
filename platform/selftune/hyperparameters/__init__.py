"""Domains, hyperparameters, and the space that packs them into one unconstrained vector."""

from selftune.hyperparameters.domain import (
    Choice,
    Domain,
    Integer,
    Interval,
    Positive,
    Unit,
    inverse_softplus,
)
from selftune.hyperparameters.hyperparameter import Hyperparameter, Tune
from selftune.hyperparameters.space import Space, entropy, entropy_gradient, scale_of

__all__ = [
    "Choice",
    "Domain",
    "Hyperparameter",
    "Integer",
    "Interval",
    "Positive",
    "Space",
    "Tune",
    "Unit",
    "entropy",
    "entropy_gradient",
    "inverse_softplus",
    "scale_of",
]
