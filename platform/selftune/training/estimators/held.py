"""No hypergradient: training is plain, and the validation loss is looked at."""

from __future__ import annotations

import torch

from selftune.methods.reports import Hypergradient
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.lower_level import validation_measures


class HeldEstimator(HypergradientEstimator):
    """Trains as if nothing were tuned; its hypergradient is zero."""

    differentiates = looks_back = moves = False

    @torch.no_grad()
    def hypergradient(self, number: int) -> tuple[Hypergradient, Measures]:
        measured = self.lower.validation_losses(self.hyper_step)
        return Hypergradient(hypergradient=torch.zeros_like(self.unconstrained)), validation_measures(*measured)
