"""What must fit together before a network is trained: the one set of checks of study files, ``tune`` and Ray Tune.

A study file and ``tune`` know method, objective and regularizers beforehand, and ``run_mistakes`` says all that is
wrong with them. Under a Tuner of one's own the two halves meet only once trials have started: there the trainer
refuses what its factory brings, and ``Method.join`` what the method cannot tune, by the same functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.hypergradients.best_response import BestResponse, ConversionReport, convert
from selftune.hyperparameters import Space
from selftune.lower_level.own_hyperparameters import PREFIX
from selftune.methods import Method, Response
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step_quantities import closure
from selftune.training.coverage import Coverage, coverage
from selftune.training.lower_level import LowerLevel
from selftune.training.method_record import NetworkForm
from selftune.training.optimization_checks import in_optimization, optimization_mistakes
from selftune.training.paths import pathless, responseless
from selftune.training.seeds import Streams
from selftune.training.trainer import TrainerFactory, check_device


def run_mistakes(
    factory: TrainerFactory, method: Callable[[], Method], form: NetworkForm | None = None, settings: Any = None
) -> Iterator[SettingError]:
    """All that is wrong with a run of a method for networks, each in a sentence; nothing is trained.

    Args:
        factory: of the trainers.
        method: makes the method.
        form, settings: of the method, where it is one that tunes.

    Keys are those of a study file, such as ``regularizers.dropout.rate`` and ``method.warmup_steps``.
    """
    try:
        factory.objective.check_losses()
    except SettingError as error:
        yield SettingError(f"objective.{error.key}".rstrip("."), error.message)
        return
    optimization = list(_optimization(factory))
    if optimization:
        yield from optimization
        return
    alone = [mistake for regularizer in factory.regularizers for mistake in _alone(regularizer, factory)]
    yield from alone
    yield from _too_late(factory)
    if not alone:
        yield from _diagnostics(factory)
    try:
        machine = method()
    except SettingError as error:
        key = "trainers.number" if error.key == "team_size" else f"method.{error.key}"
        yield SettingError(key, error.message)
        return
    if alone:
        return
    try:
        space = space_of(factory)
    except ValueError as error:
        key, message = (error.key, error.message) if isinstance(error, SettingError) else ("", str(error))
        yield SettingError(f"regularizers.{key}" if key else "regularizers", message)
        return
    mistakes = list(machine.mistakes(space))
    if form is not None:
        mistakes += form.checks(factory.objective, factory.regularizers, settings)
    yield from mistakes or _with_data(factory, form, settings)


def _optimization(factory: TrainerFactory) -> Iterator[SettingError]:
    objective = factory.objective
    try:
        network = objective.structure()
    except SettingError:  # said elsewhere
        return
    found = optimization_mistakes(
        objective.optimization, network, factory.regularizers, factory.steps, check_device(factory.device)
    )
    yield from map(in_optimization, found)


def space_of(factory: TrainerFactory) -> Space:
    """The hyperparameters of a factory's trainers.

    Raises:
        SettingError: if regularizers do not fit the objective or each other; keys start with their names.
    """
    return Space(_bound(factory).hyperparameters)


def conversion_of(factory: TrainerFactory, settings: Response) -> ConversionReport:
    """Which layers of the network respond to the hyperparameters, and which stay plain and why.

    Raises:
        SettingError: if none can.
    """
    return _converted(factory, settings)[0].report


def coverage_of(factory: TrainerFactory, settings: Response | None) -> Coverage:
    """How much of the network regularizers reach, and how much of it responds, where a response is fitted.

    Raises:
        SettingError: if regularizers do not fit the objective, or nothing can respond.
    """
    inventory = factory.objective.inventory()
    if settings is None:
        return coverage(_bound(factory), inventory)
    response, regularizers = _converted(factory, settings)
    return coverage(regularizers, inventory, response.responding)


def _converted(factory: TrainerFactory, settings: Response) -> tuple[BestResponse, Regularizers]:
    objective = factory.objective
    # As a trainer does it, without the optimizers: they make torch import its compiler.
    with torch.random.fork_rng(devices=[]):
        network = objective.network()
        regularizers = _bound(factory)
        regularizers.extend(network)
        regularizers.attach(network)
        try:
            response = convert(
                network,
                hyperparameters=len(Space(regularizers.hyperparameters)),
                example=objective.feed(),
                rank=settings.rank,
                generator=torch.Generator(),  # of the directions, which the report does not depend on
                output_layer=settings.output_layer,
                without_rule=settings.without_rule,
            )
        except ValueError as error:
            raise SettingError("objective", str(error)) from error
    return response, regularizers


def _bound(factory: TrainerFactory) -> Regularizers:
    return Regularizers(copy.deepcopy(list(factory.regularizers)), factory.objective, factory.known)


def _alone(regularizer: Regularizer, factory: TrainerFactory) -> Iterator[SettingError]:
    """What does not fit the objective, whatever the others are."""
    others = {name for other in factory.regularizers for name in other.provides}
    try:
        Regularizers([copy.deepcopy(regularizer)], factory.objective, factory.known | others)
    except SettingError as error:
        yield SettingError(f"regularizers.{_with_start(regularizer, error.key)}", error.message)


def _too_late(factory: TrainerFactory) -> Iterator[SettingError]:
    """What would come into play after the run has ended."""
    for regularizer in factory.regularizers:
        first = regularizer.settings.get(regularizer.acts_from or "")
        if factory.steps is not None and isinstance(first, int) and first >= factory.steps:
            yield SettingError(
                f"regularizers.{regularizer.name}.{regularizer.acts_from}",
                f"must be below the {factory.steps} training steps of the run, or it never counts; got {first}",
            )


def _with_start(regularizer: Regularizer, key: str) -> str:
    """The path of a wrong value, down to ``start`` where it is one that is tuned."""
    setting = regularizer.settings.get(key.rpartition(".")[2])
    return f"{key}.start" if getattr(setting, "start", None) is not None else key


def _diagnostics(factory: TrainerFactory) -> Iterator[SettingError]:
    others = {name for other in factory.regularizers for name in other.provides}
    offered = closure(factory.objective.offers().union(factory.known, others))
    for measurement in factory.diagnostics:
        try:
            measurement.check(factory.objective, offered)
        except SettingError as error:
            yield SettingError(f"diagnostics.{measurement.diagnostic}", error.message)


def _without_effect(factory: TrainerFactory, form: NetworkForm | None, settings: Any) -> Iterator[SettingError]:
    """What is tuned and changes nothing that is trained, or nothing that responds."""
    mistakes: list[SettingError] = []
    if form is not None and not form.moves:
        return
    if form is not None and form.response is not None:
        response, regularizers = _converted(factory, form.response(settings))
        mistakes += responseless(regularizers, response.responding)
    cpu = torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        lower = LowerLevel(
            factory.objective,
            factory.regularizers,
            Streams(factory.seed, 0, cpu),
            cpu,
            factory.steps,
            checked=True,
        )
        mistakes += pathless(lower, differentiated=form is not None and form.differentiates)
    for mistake in mistakes:
        section = "" if mistake.key.startswith(PREFIX) else "regularizers."
        yield SettingError(f"{section}{mistake.key}", mistake.message)


def _with_data(factory: TrainerFactory, form: NetworkForm | None, settings: Any) -> Iterator[SettingError]:
    """What method and network say of each other; everything fits for itself."""
    try:
        yield from _without_effect(factory, form, settings)
    except SettingError as error:
        yield error
    except RuntimeError as error:  # what torch raises for shapes that do not fit and memory that is not there
        first_line = str(error).partition("\n")[0]
        yield SettingError("objective", f"the network cannot be built here: {first_line}")
