"""A study file: objective, regularizers, method, trainers, budget, seed and metric, read and checked."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from selftune.errors import SettingError, suggestion
from selftune.fields import check_fields, shown
from selftune.hypergradients.best_response import ConversionReport
from selftune.hyperparameters import Space
from selftune.lower_level.better import mode_of
from selftune.lower_level.objective import NetworkObjective, tasks
from selftune.lower_level.smooth_objective import NotStronglyConvex, SmoothObjective
from selftune.methods import Budget, Method, Response, SelfTuningSettings
from selftune.methods.team import check_team
from selftune.registries.diagnostics import Measurement
from selftune.registries.registry import UnknownName
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.studies.hyperparameter_values import parse_value
from selftune.studies.memory import machines_memory, within_memory
from selftune.studies.mistakes import ENOUGH, Mistakes, as_mistakes, join, mistake
from selftune.studies.network import network_mistakes
from selftune.studies.optimization import build_task
from selftune.studies.settings import build_settings, check_mapping, mistakes_of, unknown_key
from selftune.studies.smooth import smooth_mistakes
from selftune.studies.yaml_file import not_finite, parse_yaml, read_text
from selftune.training import TrainerFactory
from selftune.training.checks import conversion_of, coverage_of, space_of
from selftune.training.coverage import Coverage
from selftune.training.method_record import (
    NetworkForm,
    SmoothForm,
    are_settings,
    fitting,
    methods,
    of_settings,
)
from selftune.training.runner import Executes
from selftune.training.seeds import check_seed

SMALLEST_SHARE = 0.0001  # of a CPU or GPU: Ray counts no finer


@dataclass(frozen=True)
class Trainers:
    """How many trainers work on a study, and what each of them gets."""

    number: int = 1
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_team(self.number, key="number")
        if not SMALLEST_SHARE <= self.cpus < math.inf:
            raise SettingError("cpus", f"must be at least {SMALLEST_SHARE} and finite, got {self.cpus:g}")
        if not (self.gpus == 0 or SMALLEST_SHARE <= self.gpus < math.inf):
            raise SettingError("gpus", f"must be 0, or at least {SMALLEST_SHARE} and finite, got {self.gpus:g}")

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def _objective(given: Any) -> Any:
    if isinstance(given, NetworkObjective | SmoothObjective):
        return given
    name, settings = _named(given, "task", tasks.names())
    task: Any = tasks[name]
    try:
        if isinstance(task, type) and issubclass(task, NetworkObjective):
            return build_task(task, settings)
        return build_settings(task, settings)
    except NotStronglyConvex as error:
        raise SettingError("", str(error)) from error
    except RuntimeError as error:  # what torch raises for sizes that nothing can have
        raise SettingError("", f"cannot be made here: {str(error).partition(chr(10))[0]}") from error


def _regularizers(given: Any) -> Any:
    if isinstance(given, tuple):
        return given
    check_mapping(given)
    built: list[Regularizer] = []
    mistakes: list[SettingError] = []
    for name, settings in given.items():
        try:
            built.append(_regularizer(name, settings))
        except (SettingError, UnknownName, Mistakes) as error:
            mistakes += as_mistakes(error).under(name).mistakes
            if len(mistakes) >= ENOUGH:
                break
    if mistakes:
        raise Mistakes(mistakes)
    return tuple(built)


def _regularizer(name: str, given: Any) -> Regularizer:
    cls = regularizers[name]
    given = {} if given is None else given
    check_mapping(given)
    settings: dict[str, Any] = {}
    known = [h.name for h in cls.hyperparameters] + (["parts"] if cls.per_layer else [])
    for key, value in given.items():
        if key not in known:
            raise unknown_key(key, known)
        if key == "parts":
            settings[key] = value
            continue
        declared = next(h for h in cls.hyperparameters if h.name == key)
        try:
            settings[key] = parse_value(declared, value)
        except SettingError as error:
            raise SettingError(join(key, error.key), error.message) from error
    return cls(**settings)


def _method(given: Any, info: ValidationInfo) -> Any:
    if are_settings(given):
        return given
    name, settings = _named(given, "name", methods.names())
    record = methods[name]
    form = record.form_for(info.data.get("objective")) or record.forms[0]
    return build_settings(form.settings, settings)


def _diagnostics(given: Any) -> Any:
    if isinstance(given, tuple):
        return given
    check_mapping(given)
    built: list[Measurement] = []
    mistakes: list[SettingError] = []
    for name, settings in given.items():
        try:
            settings = {} if settings is None else settings
            check_mapping(settings)
            every = settings.get("every", 1)
            if not isinstance(every, int) or isinstance(every, bool):
                raise SettingError("every", f"must be a whole number, got {shown(every)}")
            built.append(Measurement(name, every, {k: v for k, v in settings.items() if k != "every"}))
        except (SettingError, UnknownName, Mistakes) as error:
            mistakes += as_mistakes(error).under(name).mistakes
            if len(mistakes) >= ENOUGH:
                break
    if mistakes:
        raise Mistakes(mistakes)
    return tuple(built)


def _named(given: Any, key: str, known: Iterable[str]) -> tuple[str, dict[str, Any]]:
    check_mapping(given)
    settings = dict(given)
    if key not in settings:
        raise SettingError(key, f"is missing; name one of {', '.join(sorted(known))}")
    name = settings.pop(key)
    if not isinstance(name, str):
        raise SettingError(key, f"must be a name, got {shown(name)}; name one of {', '.join(sorted(known))}")
    if name not in known:
        raise SettingError(key, f"unknown name {shown(name)}; {suggestion(str(name), known)}")
    return name, settings


def _name(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", given):
        wanted = "a name of letters, digits, '-', '_' and '.', because it names a folder"
        raise SettingError("", f"must be {wanted}; got {shown(given)}")
    return given


def _seed(given: int) -> int:
    try:
        check_seed(given)
    except SettingError as error:
        raise SettingError("", error.message) from error
    return given


def _dataclass(cls: type[Any]) -> BeforeValidator:
    return BeforeValidator(lambda given: given if isinstance(given, cls) else build_settings(cls, given))


class Study(BaseModel):
    """A validated study. ``load_study`` reads one from a file; in Python, ``selftune.tune`` needs none.

    The fields are those of the file, with every section built: the objective, the regularizers (unbound, each
    trainer binds its own copies), the settings of the method, and so on.

    >>> study = parse_study('''
    ... study: example
    ... objective: {task: digits, hidden: [16]}
    ... regularizers: {dropout: {rate: {start: 0.1}}}
    ... budget: {steps: 500}
    ... ''')
    >>> study.space.names
    ('dropout.rate',)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    study: Annotated[str, AfterValidator(_name)]
    objective: Annotated[NetworkObjective | SmoothObjective, BeforeValidator(_objective)]
    regularizers: Annotated[tuple[Regularizer, ...], BeforeValidator(_regularizers)] = ()
    method: Annotated[Any, BeforeValidator(_method)] = SelfTuningSettings()
    trainers: Annotated[Trainers, _dataclass(Trainers)] = Trainers()
    budget: Annotated[Budget, _dataclass(Budget)]
    seed: Annotated[int, AfterValidator(_seed)] = 0
    diagnostics: Annotated[tuple[Measurement, ...], BeforeValidator(_diagnostics)] = ()
    metric: str = "validation_loss"
    text: Annotated[str, Field(exclude=True)] = ""
    """The file's text, for the copy in the output folder."""

    @cached_property
    def space(self) -> Space:
        """The hyperparameters, tuned and fixed: those of the regularizers, or of a smooth objective itself."""
        if isinstance(self.objective, SmoothObjective):
            return Space(self.objective.hyperparameters)
        return space_of(self.network_factory())

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger ``metric`` is better."""
        measured = {name: better for m in self.diagnostics for name, better in m.better.items()}
        return measured.get(self.metric) or mode_of(self.metric)

    @property
    def method_name(self) -> str:
        return of_settings(self.method)[0]

    @property
    def form(self) -> NetworkForm | SmoothForm:
        return of_settings(self.method)[1]

    @property
    def networks(self) -> int:
        """How many networks come out of the study, each with random numbers of its own."""
        one = isinstance(self.form, NetworkForm) and self.form.one_network
        return 1 if one else self.trainers.number // self.form.group_size

    def build_method(self) -> Method:
        method = self.form.make(self.budget, self.method, self.trainers.number)
        method.judge_by(self.metric, self.mode)
        return method

    def trainer_factory(self, seed: int | None = None) -> Callable[[int], Executes]:
        """What makes the trainers; ``seed`` replaces the study's own, which counts where a method draws."""
        if isinstance(self.form, SmoothForm):
            assert isinstance(self.objective, SmoothObjective)
            return self.form.trainers(
                self.objective, self.method, self.trainers.cpus, self.seed if seed is None else seed
            )
        return self.network_factory(seed)

    def network_factory(self, seed: int | None = None) -> TrainerFactory:
        """``trainer_factory`` of a study that trains networks."""
        assert isinstance(self.objective, NetworkObjective)
        return TrainerFactory(
            self.objective,
            self.regularizers,
            seed=self.seed if seed is None else seed,
            device=self.trainers.device,
            cpus=self.trainers.cpus,
            group_size=self.form.group_size,
            steps=self.budget.steps,
            diagnostics=self.diagnostics,
        )

    @property
    def response(self) -> Response | None:
        """How layers are made to respond to the hyperparameters; None where the method needs no response."""
        form = self.form
        if not isinstance(form, NetworkForm) or form.response is None:
            return None
        return form.response(self.method)

    @property
    def converts(self) -> bool:
        """Whether the method gives the network layers that respond to the hyperparameters."""
        return self.response is not None

    @cached_property
    def conversion(self) -> ConversionReport:
        """Which layers of the network respond to the hyperparameters, and which stay plain and why.

        Raises:
            SettingError: if none can.
        """
        response = self.response
        assert response is not None
        return conversion_of(self.network_factory(), response)

    @cached_property
    def coverage(self) -> Coverage:
        """How much of the network regularizers reach, and how much of it responds."""
        return coverage_of(self.network_factory(), self.response)

    def check_device(self) -> None:
        """Refuses a study that asks for GPUs on a machine that has none.

        Raises:
            Mistakes: with the key ``trainers.gpus``.
        """
        gpus = self.trainers.gpus
        if gpus and not torch.cuda.is_available():
            raise mistake(
                "trainers.gpus",
                f"asks for {gpus:g} GPU{'s' if gpus > 1 else ''} per trainer, but torch finds no CUDA device here;"
                " set gpus to 0, or run the study on a Ray cluster that has some",
            )

    def check_room(self) -> None:
        """Refuses a team that a Ray cluster of this machine alone could not hold.

        Raises:
            Mistakes: with the key ``trainers``.
        """
        number, cpus, there = self.trainers.number, self.trainers.cpus, os.cpu_count()
        if there is not None and there / cpus < number:
            raise mistake(
                "trainers",
                f"{number} trainer{'s' if number > 1 else ''} with {cpus:g} cpu{'' if cpus == 1 else 's'} each"
                f" do not fit on this machine's {there} cpus; lower number or cpus (0.5 shares one), use --local,"
                " or set RAY_ADDRESS to a larger cluster",
            )

    @model_validator(mode="after")
    def _check(self) -> Study:
        mistakes = list(self._mistakes())
        if mistakes:
            raise Mistakes(mistakes)
        return self

    def _mistakes(self) -> Iterator[SettingError]:
        form = self.form
        if methods[self.method_name].form_for(self.objective) is not form:
            is_network = isinstance(self.objective, NetworkObjective)
            has = "a network" if is_network else "a smooth lower level instead of a network"
            known = ", ".join(fitting(self.objective))
            yield SettingError("method.name", f"{self.method_name} does not fit a task with {has}; use {known}")
            return
        for key in ("steps", "seconds", "work"):
            if getattr(self.budget, key) is not None and key not in form.budgets:
                give = " or ".join(form.budgets)
                yield SettingError(f"budget.{key}", f"is no budget of {self.method_name}; give {give}")
        if isinstance(self.objective, SmoothObjective):
            yield from smooth_mistakes(self)
            return
        yield from network_mistakes(self)


def load_study(path: Path, seed: int | None = None, steps: int | None = None) -> Study:
    """Reads and checks a study file; ``seed`` and ``steps`` replace what it says.

    Raises:
        UserError: one line per mistake, with the file and the path of the key.
    """
    try:
        return parse_study(read_text(path), seed, steps)
    except Mistakes as error:
        raise error.in_file(str(path)) from error


def parse_study(text: str, seed: int | None = None, steps: int | None = None) -> Study:
    """``load_study`` of a text.

    Raises:
        Mistakes: all that could be found.
    """
    content = parse_yaml(text)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if steps is not None:
        given = content.get("budget")
        patience = {"patience": given["patience"]} if isinstance(given, dict) and "patience" in given else {}
        changes["budget"] = {"steps": steps, **patience}
    if any(content.get(key) != value for key, value in changes.items()):
        content |= changes
        text = yaml.safe_dump(content, sort_keys=False)
    mistakes = list(not_finite(content))
    if mistakes:
        raise Mistakes(mistakes)
    known = [name for name in Study.model_fields if name != "text"]
    unknown = [unknown_key(key, known) for key in islice((key for key in content if key not in known), ENOUGH)]
    given = {key: value for key, value in content.items() if key in known}
    try:
        with within_memory():
            study = Study.model_validate({**given, "text": text})
    except MemoryError as error:
        gibibytes = machines_memory() / 2**30
        raise mistake("", f"asks for more memory than this machine has, which is {gibibytes:.0f} GiB") from error
    except ValidationError as error:
        raise Mistakes([*unknown, *mistakes_of(error, given)]) from error
    if unknown:
        raise Mistakes(unknown)
    return study
