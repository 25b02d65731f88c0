"""What is special about studies of networks: how objective, regularizers, method and diagnostics must fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from selftune.errors import SettingError, suggestion
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.inventory import undisturbed
from selftune.training.checks import run_mistakes
from selftune.training.method_record import NetworkForm

if TYPE_CHECKING:
    from selftune.studies.study import Study


def network_mistakes(study: Study) -> Iterator[SettingError]:
    """What fits each for itself, but not together, in a study that trains networks."""
    objective = study.objective
    assert isinstance(objective, NetworkObjective)
    assert isinstance(study.form, NetworkForm)
    if "regularizers" not in study.model_fields_set:
        yield SettingError("regularizers", "is missing; add it")
        return
    mistakes = list(run_mistakes(study.network_factory(), study.build_method, study.form, study.method))
    yield from mistakes
    if mistakes:
        return
    measured = [name for m in study.diagnostics for name in m.names]
    metrics = [*metrics_of(objective), *measured]
    if study.metric not in metrics:
        yield SettingError("metric", f"unknown metric {study.metric!r}; {suggestion(study.metric, metrics)}")
    better = {name: mode for m in study.diagnostics for name, mode in m.better.items()}
    if study.metric in better and better[study.metric] is None:
        yield SettingError("metric", f"{study.metric} is neither better large nor better small; name another")


def metrics_of(objective: NetworkObjective) -> list[str]:
    """What a validation report can hold, found by asking the objective about one example."""
    batch = objective.example(1)
    with torch.no_grad(), undisturbed():
        outputs = objective.outputs(objective.network().eval(), batch)
        names = ["loss", *objective.measure(outputs, batch)]
    return [f"validation_{name}" for name in names]
