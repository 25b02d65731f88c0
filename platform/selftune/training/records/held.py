"""``method: {name: held}``."""

from __future__ import annotations

from selftune.methods import Held, HeldSettings
from selftune.training.estimators.held import HeldEstimator
from selftune.training.method_record import MethodRecord, NetworkForm

METHOD = MethodRecord(network=NetworkForm(settings=HeldSettings, machine=Held, estimator=HeldEstimator))
