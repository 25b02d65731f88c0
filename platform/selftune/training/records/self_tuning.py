"""``method: {name: self_tuning}``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective
from selftune.methods import SelfTuning, SelfTuningSettings
from selftune.regularization.regularizer import Regularizer
from selftune.training.estimators.response import ResponseEstimator
from selftune.training.method_record import MethodRecord, NetworkForm
from selftune.training.optimization_checks import beside_plain_steps


def _checks(
    objective: NetworkObjective, regularizers: Sequence[Regularizer], settings: SelfTuningSettings
) -> Iterator[SettingError]:
    if settings.response.joint:
        yield from beside_plain_steps(
            objective.optimization,
            "does not go together with a response that is fitted jointly; leave it out, or set response.joint to"
            " false",
        )


METHOD = MethodRecord(
    network=NetworkForm(
        settings=SelfTuningSettings,
        machine=SelfTuning,
        estimator=ResponseEstimator,
        response=lambda settings: settings.response,
        checks=_checks,
    )
)
