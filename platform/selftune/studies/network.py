"""What is special about studies of networks: how objective, regularizers, method and diagnostics must fit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from selftune.composition import Regularizers
from selftune.errors import SettingError, suggestion
from selftune.methods import NetworkLineSearchSettings, PenaltySettings
from selftune.objective import NetworkObjective
from selftune.provided import closure
from selftune.regularizer import Regularizer, has_a_response, is_in_the_loss
from selftune.studies.methods import METHODS
from selftune.studies.mistakes import as_mistakes, join
from selftune.training.penalty_level import single_loop_mistake
from selftune.training.trials import number_of_judges

if TYPE_CHECKING:
    from selftune.studies.study import Study


def network_mistakes(study: Study) -> Iterator[SettingError]:
    """What fits each for itself, but not together, in a study that trains networks."""
    objective = study.objective
    assert isinstance(objective, NetworkObjective)
    if "regularizers" not in study.model_fields_set:
        yield SettingError("regularizers", "is missing; add it")
        return
    try:
        objective.inventory()
    except SettingError as error:
        yield SettingError("objective", error.message)
        return
    fitting = []
    known = study.known
    for regularizer in study.regularizers:
        try:
            Regularizers([copy.deepcopy(regularizer)], objective, known)
            fitting.append(regularizer)
        except SettingError as error:
            yield SettingError(join("regularizers", _with_start(regularizer, error.key)), error.message)
    if len(fitting) < len(study.regularizers):
        return
    for measurement in study.diagnostics:
        try:
            measurement.check(objective, closure(objective.provides.union(known)))
        except SettingError as error:
            yield SettingError(join("diagnostics", measurement.diagnostic), error.message)
    try:
        nothing_tuned = not len(study.space)
    except (SettingError, ValueError) as error:
        yield from as_mistakes(error).under("regularizers").mistakes
        return
    if nothing_tuned:
        yield SettingError(
            "regularizers", "nothing is tuned; give at least one hyperparameter a start, or write 'tune'"
        )
        return
    mistakes = list(_conversion_mistakes(study) if study.converts else _smoothness_mistakes(study))
    steps, warmup = study.budget.steps, study.method.warmup_steps
    if steps is not None and steps <= warmup:
        yield SettingError(
            "method.warmup_steps",
            f"must be below the budget of {steps} training steps, or nothing is ever tuned; got {warmup}",
        )
    mistakes += _method_mistakes(study) if not mistakes else []
    yield from mistakes
    if mistakes:
        return
    measured = [name for m in study.diagnostics for name in m.names]
    metrics = [*_metrics(objective), *measured]
    if study.metric not in metrics:
        yield SettingError("metric", f"unknown metric {study.metric!r}; {suggestion(study.metric, metrics)}")
    better = {name: mode for m in study.diagnostics for name, mode in m.better.items()}
    if study.metric in better and better[study.metric] is None:
        yield SettingError("metric", f"{study.metric} is neither better large nor better small; name another")


def _smoothness_mistakes(study: Study) -> Iterator[SettingError]:
    """A network that cannot be built, and what cannot be tuned by differentiating the training loss."""
    assert isinstance(study.objective, NetworkObjective)
    try:
        study.objective.network()
    except RuntimeError as error:
        yield SettingError("objective", f"the network cannot be built here: {_first_line(error)}")
        return
    if not study.form.differentiates:
        return
    able = [
        name
        for name, forms in METHODS.items()
        if any(isinstance(study.objective, form.objective) and not form.differentiates for form in forms)
    ]
    in_the_loss = {regularizer.name: is_in_the_loss(regularizer) for regularizer in study.regularizers}
    for hyperparameter in study.space.tuned:
        if not (hyperparameter.smooth and in_the_loss[hyperparameter.name.partition(".")[0]]):
            yield SettingError(
                f"regularizers.{hyperparameter.name}",
                f"cannot be tuned by {study.method_name}, because the training loss is not differentiable in"
                f" it; tune it by {' or '.join(able)}, or give it a fixed value",
            )


def _method_mistakes(study: Study) -> Iterator[SettingError]:
    """What the method says of hyperparameters, regularizers and data as they are."""
    objective, settings = study.objective, study.method
    assert isinstance(objective, NetworkObjective)
    if isinstance(settings, PenaltySettings):
        try:
            settings.check_start(study.space.start)
        except SettingError as error:
            yield SettingError(join("method", error.key), error.message)
    if isinstance(settings, PenaltySettings) and settings.momentum is not None:
        mistake = single_loop_mistake(study.regularizers, objective.stages())
        if mistake is not None:
            yield mistake
    if isinstance(settings, NetworkLineSearchSettings):
        examples = len(objective.splits()["validation"]["labels"])
        mistake = settings.mistake_of(number_of_judges(examples, settings.validation_samples))
        if mistake is not None:
            yield SettingError(join("method", mistake.key), mistake.message)


def _conversion_mistakes(study: Study) -> Iterator[SettingError]:
    acting = {regularizer.name: has_a_response(regularizer) for regularizer in study.regularizers}
    for hyperparameter in study.space.tuned:
        if not acting[hyperparameter.name.partition(".")[0]]:
            yield SettingError(
                f"regularizers.{hyperparameter.name}",
                "cannot be tuned by self_tuning, because it acts on gradients or whole steps, to which a network"
                " learns no response; give it a fixed value",
            )
    rank, columns = study.method.response.rank, len(study.space)
    if rank != "auto" and rank > columns:
        yield SettingError(
            "method.response.rank",
            f"must be 'auto' or at most {columns}, the number of tuned hyperparameters, got {rank}",
        )
        return
    try:
        _ = study.conversion
    except ValueError as error:
        yield SettingError("objective", str(error))
    except RuntimeError as error:  # what torch raises for shapes that do not fit and memory that is not there
        yield SettingError("objective", f"the network cannot be built here: {_first_line(error)}")


def _metrics(objective: NetworkObjective) -> list[str]:
    """What a validation report can hold, found by asking the objective about one example."""
    batch = {name: tensor[:1] for name, tensor in objective.splits()["validation"].items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        outputs = objective.outputs(objective.network().eval(), batch)
        names = ["loss", *objective.metrics(outputs, batch["labels"])]
    return [f"validation_{name}" for name in names]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _with_start(regularizer: Regularizer, key: str) -> str:
    """The path of a wrong value, down to ``start`` where the file gave one."""
    setting = regularizer.settings.get(key.rpartition(".")[2])
    return join(key, "start") if getattr(setting, "start", None) is not None else key
