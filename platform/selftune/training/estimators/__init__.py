"""Hypergradient estimators by the name that orders give."""

from __future__ import annotations

from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator
from selftune.training.estimators.implicit import ImplicitEstimator
from selftune.training.estimators.penalty import PenaltyEstimator
from selftune.training.estimators.response import ResponseEstimator

ESTIMATORS: dict[str, type[HypergradientEstimator]] = {
    "response": ResponseEstimator,
    "implicit": ImplicitEstimator,
    "penalty": PenaltyEstimator,
}
