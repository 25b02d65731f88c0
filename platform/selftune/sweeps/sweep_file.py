"""A study file with a section ``sweep``: read, and checked over the whole range of what is swept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from selftune.errors import SettingError
from selftune.fields import shown
from selftune.hyperparameters.distribution import Choices, Distribution
from selftune.lower_level.objective import NetworkObjective
from selftune.search import SearchSpace, Swept
from selftune.studies.mistakes import Mistakes, mistake
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.studies.yaml_file import parse_yaml, read_text
from selftune.sweeps.over import is_tuned, search_space
from selftune.sweeps.placed import START
from selftune.sweeps.section import check_keys, search_settings
from selftune.sweeps.swept_study import SweptStudy, text_of

SECTION = "sweep"


def is_sweep(text: str) -> bool:
    """Whether a study file has a section ``sweep``.

    Raises:
        Mistakes: if it is not YAML.

    >>> is_sweep("study: digits")
    False
    """
    return SECTION in parse_yaml(text)


def load_sweep(path: Path, seed: int | None = None, steps: int | None = None) -> SweptStudy:
    """Reads and checks a study file with a section ``sweep``; ``seed`` and ``steps`` as of ``load_study``.

    Raises:
        UserError: one line per mistake, with the file and the path of the key.
    """
    try:
        return parse_sweep(read_text(path), seed, steps)
    except Mistakes as error:
        raise error.in_file(str(path)) from error


def parse_sweep(text: str, seed: int | None = None, steps: int | None = None) -> SweptStudy:
    """``load_sweep`` of a text. Where nothing is tuned and no method is named, the method is ``held``.

    Raises:
        Mistakes: all that could be found.
    """
    content = parse_yaml(text)
    if SECTION not in content:
        raise mistake(SECTION, "is missing; without it a study is run as it is")
    changes = {} if seed is None else {"seed": seed}
    if changes or steps is not None:
        content |= changes | ({} if steps is None else {"budget": {"steps": steps}})
        text = yaml.safe_dump(content, sort_keys=False)
    section = content.pop(SECTION)
    try:
        check_keys(section)
        space = search_space(section.get("over"), section.get("space"), content)
    except Mistakes as error:
        raise error.under(SECTION) from error
    if "method" not in content and not _tunes(content, space):
        content["method"] = {"name": "held"}
    study = _middle(content, space)
    try:
        settings = search_settings(section, study, space)
    except Mistakes as error:
        raise error.under(SECTION) from error
    mistakes = list(_unfit(content, space))
    if mistakes:
        raise Mistakes(mistakes)
    return SweptStudy(text, content, replace(study, text=text), space, settings)


def _tunes(content: Mapping[str, Any], space: SearchSpace) -> bool:
    """Whether something is tuned online inside of the trials."""
    if any(one.key.endswith(START) for one in space):
        return True
    sections = content.get("regularizers")
    if not isinstance(sections, Mapping):  # of smooth problems it is the objective that is tuned
        return True
    chosen = sections.values()
    return any(is_tuned(value) for one in chosen if isinstance(one, Mapping) for value in one.values())


def _middle(content: Mapping[str, Any], space: SearchSpace) -> Study:
    """A sample from the middle of the space, which stands for what all trials have in common."""
    values = space.draw(lambda swept: swept.distribution.quantile(0.5))
    try:
        study = parse_study(text_of(content, values))
    except SettingError as error:
        raise Mistakes([SettingError(f"{SECTION}.over.{error.key}", error.message)]) from error
    except Mistakes as error:
        raise Mistakes(_of_sweep(one, values) for one in error.mistakes) from error
    if not isinstance(study.objective, NetworkObjective):
        raise mistake(SECTION, "is for studies that train networks; this one solves a smooth problem")
    if study.trainers.at_least is not None:
        raise mistake(
            "trainers.at_least", "is for a study by itself: a trial has room for its trainers; leave it out"
        )
    if study.horizon is not None:
        raise mistake(
            "horizon", "is for a study by itself; leave it out, and give it to the study of the sweep's winner"
        )
    if study.budget.steps is None:
        raise mistake("budget", "must be in steps where a study is swept, so that all trials train equally long")
    return study


def _of_sweep(mistake: SettingError, values: Mapping[str, Any]) -> SettingError:
    """A mistake of a sample as one of the section, where a swept value is what is wrong."""
    unknown = mistake.message.startswith("unknown key")
    above = next((key for key in values if unknown and key.startswith(f"{mistake.key}.")), None)
    if above is not None:  # a section that the sweep alone brings
        return SettingError(f"{SECTION}.over.{above}", f"{mistake.key} is an {mistake.message}")
    if mistake.key not in values:
        return mistake
    at = "" if unknown else f"at {shown(values[mistake.key])}: "
    return SettingError(f"{SECTION}.over.{mistake.key}", f"{at}{mistake.message}")


def _unfit(content: Mapping[str, Any], space: SearchSpace) -> Iterator[SettingError]:
    """Distributions that do not fit their keys: at an end, or an option, the study is refused.

    Those of regularizers were checked against their domains; for the others the study is made at each end, while
    the other keys are where they are in the middle.
    """
    for one in space:
        if one.key.startswith("regularizers."):
            continue
        for value in _probes(one.distribution):
            values = _drawn_with(space, one, value)
            try:
                parse_study(text_of(content, values))
            except Mistakes as error:
                wrong = error.mistakes[0]
                if wrong.key != one.key:
                    wrong = SettingError(one.key, str(wrong))
                yield _of_sweep(wrong, values)
                break


def _probes(distribution: Distribution) -> tuple[Any, ...]:
    if isinstance(distribution, Choices):
        return distribution.options
    return distribution.quantile(0.0), distribution.quantile(1.0)


def _drawn_with(space: SearchSpace, one: Swept, value: Any) -> dict[str, Any]:
    """Values from the middle of the space with one at its own, and its conditions met."""
    chosen = {one.key: value}
    waiting = [one]
    while waiting:
        for key, options in waiting.pop().when.items():
            chosen[key] = options[0]
            waiting.append(space[key])
    return space.draw(lambda swept: chosen.get(swept.key, swept.distribution.quantile(0.5)))
