"""Domains, hyperparameters, and the space that packs them into one unconstrained vector."""

from selftune.hyperparameters.distribution import (
    Choices,
    Distribution,
    Integers,
    LogUniform,
    Uniform,
    distribution_of,
)
from selftune.hyperparameters.domain import (
    Choice,
    Domain,
    Integer,
    Interval,
    Positive,
    Unit,
    domain_of,
    inverse_softplus,
)
from selftune.hyperparameters.hyperparameter import Hyperparameter, Tune
from selftune.hyperparameters.space import Space, entropy, entropy_gradient, scale_of
from selftune.hyperparameters.start_rule import AUTO, StartRule

__all__ = [
    "AUTO",
    "Choice",
    "Choices",
    "Distribution",
    "Domain",
    "Hyperparameter",
    "Integer",
    "Integers",
    "Interval",
    "LogUniform",
    "Positive",
    "Space",
    "StartRule",
    "Tune",
    "Uniform",
    "Unit",
    "distribution_of",
    "domain_of",
    "entropy",
    "entropy_gradient",
    "inverse_softplus",
    "scale_of",
]
