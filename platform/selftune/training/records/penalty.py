"""``method: {name: penalty}``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective
from selftune.methods import Penalty, PenaltySettings
from selftune.regularization.regularizer import Regularizer
from selftune.training.estimators.penalty import PenaltyEstimator, single_loop_mistake
from selftune.training.method_record import MethodRecord, NetworkForm
from selftune.training.optimization_checks import beside_plain_steps, of_the_optimizer


def _checks(
    objective: NetworkObjective, regularizers: Sequence[Regularizer], settings: PenaltySettings
) -> Iterator[SettingError]:
    if settings.momentum is None:
        return
    reason = (
        "is of the optimizer, but with method.momentum weights move along an estimate without it; leave it out, or"
        " set momentum to null"
    )
    yield from beside_plain_steps(objective.optimization, reason)
    yield from of_the_optimizer(objective.optimization, reason)
    mistake = single_loop_mistake(regularizers, objective.stages())
    if mistake is not None:
        yield mistake


METHOD = MethodRecord(
    network=NetworkForm(settings=PenaltySettings, machine=Penalty, estimator=PenaltyEstimator, checks=_checks)
)
