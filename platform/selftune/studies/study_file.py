"""A study file: read, every section built, and checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
)

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.memory import machines_memory
from selftune.methods import Budget, SelfTuningSettings
from selftune.registries.diagnostics import Measurement
from selftune.regularization.regularizer import Regularizer
from selftune.studies.horizon_settings import Horizon
from selftune.studies.machine import within_memory
from selftune.studies.mistakes import ENOUGH, Mistakes, as_mistakes, mistake
from selftune.studies.sections import diagnostics_of, method_of, objective_of, regularizers_of
from selftune.studies.settings import build_settings, mistakes_of, unknown_key
from selftune.studies.strategies import strategy_for
from selftune.studies.study import Study, Trainers
from selftune.studies.yaml_file import not_finite, parse_yaml, read_text
from selftune.training.seeds import check_seed


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


def _method(given: Any, info: ValidationInfo) -> Any:
    return method_of(given, info.data.get("objective"))


class _Sections(BaseModel):
    """The sections of a study file, each for itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    study: Annotated[str, AfterValidator(_name)]
    objective: Annotated[NetworkObjective | SmoothObjective, BeforeValidator(objective_of)]
    regularizers: Annotated[tuple[Regularizer, ...], BeforeValidator(regularizers_of)] = ()
    method: Annotated[Any, BeforeValidator(_method)] = SelfTuningSettings()
    trainers: Annotated[Trainers, BeforeValidator(lambda given: build_settings(Trainers, given))] = Trainers()
    budget: Annotated[Budget, BeforeValidator(lambda given: build_settings(Budget, given))]
    seed: Annotated[int, AfterValidator(_seed)] = 0
    diagnostics: Annotated[tuple[Measurement, ...], BeforeValidator(diagnostics_of)] = ()
    metric: str = "validation_loss"
    horizon: Annotated[Horizon | None, BeforeValidator(lambda given: build_settings(Horizon, given))] = None


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
    known = list(_Sections.model_fields)
    unknown = [unknown_key(key, known) for key in islice((key for key in content if key not in known), ENOUGH)]
    given = {key: value for key, value in content.items() if key in known}
    try:
        with within_memory():
            study = _built(given, text)
    except MemoryError as error:
        gibibytes = machines_memory() / 2**30
        raise mistake("", f"asks for more memory than this machine has, which is {gibibytes:.0f} GiB") from error
    except ValidationError as error:
        raise Mistakes([*unknown, *mistakes_of(error, given)]) from error
    except ValueError as error:
        raise Mistakes([*unknown, *as_mistakes(error).mistakes]) from error
    if unknown:
        raise Mistakes(unknown)
    return study


def _built(given: Mapping[str, Any], text: str) -> Study:
    sections = _Sections.model_validate(given)
    missing = [key for key in strategy_for(sections.objective).required if key not in given]
    if missing:
        raise Mistakes(SettingError(key, "is missing; add it") for key in missing)
    return Study(**{name: getattr(sections, name) for name in _Sections.model_fields}, text=text)
