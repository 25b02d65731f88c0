"""A study under one method of tuning: a study file whose section ``sweep`` says how it is tuned."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import Any

import yaml

from selftune.errors import SettingError
from selftune.lower_level.own_hyperparameters import PREFIX
from selftune.studies.mistakes import Mistakes
from selftune.studies.rule_study import rule_study
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.sweeps.comparison.compared_method import HELD, RULE, ComparedMethod
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.tuned_space import TunedKey
from selftune.sweeps.placed import placed
from selftune.training.method_record import methods

POPULATION = 8
"""Trials of a population where the budget is in seconds, and does not say how many it lasts for."""
_LONGEST_NAME = 50


class MethodSweeps:
    """Writes the sweep of each method of a comparison.

    Args:
        content: of the study file.
        study: the same, checked.
        keys: what it tunes.
        settings: of the comparison.
    """

    def __init__(
        self, content: Mapping[str, Any], study: Study, keys: Sequence[TunedKey], settings: ComparisonSettings
    ) -> None:
        self.content, self.study, self.keys, self.settings = content, study, tuple(keys), settings
        self._moved: dict[str, tuple[TunedKey, ...]] = {}

    def text(self, method: ComparedMethod, seed: int) -> str:
        """The sweep of a method with a seed, under the budget of the comparison."""
        if method.kind == "baseline":
            return self._written(self._baseline(method, seed), method, seed, _single(seed))
        over = self._over(method)
        section: dict[str, Any] = {"over": over, "searcher": method.searcher, "scheduler": method.scheduler}
        section |= {"first": [self._starts(method)], "budget": self._budget()}
        if method.is_population:
            section["trials"] = self._population(method)
        return self._written(self._drawn(method), method, seed, section)

    def starts_text(self, method: ComparedMethod, seed: int, draws: Sequence[Mapping[str, Any]]) -> str:
        """One trial from each of several draws of the tuned keys.

        Args:
            draws: values by key of ``TunedKey``: starts for a method that moves it, held by any other.
        """
        moved = {key.key: key for key in self.moved(method)}
        first = [
            {name: value for key, drawn in draw.items() for name, value in _at(moved.get(key), key, drawn).items()}
            for draw in draws
        ]
        section = {"over": self._over(method), "searcher": "random", "first": first, "trials": len(first)}
        return self._written(self._drawn(method), method, seed, section)

    def members(self, method: ComparedMethod) -> int:
        """Networks that one trial trains."""
        if method.kind != "online":
            return 1
        form = methods[method.tuner].form_for(self.study.objective)
        size = 1 if form is None else form.group_size
        return max(1, -(-self.study.trainers.number // size)) * size

    def moved(self, method: ComparedMethod) -> tuple[TunedKey, ...]:
        """The keys that a method moves while a trial trains: the others, which it cannot move, are drawn and held.

        Raises:
            Mistakes: why the study does not fit the method at all; keys are those of a study file.
        """
        if method.kind != "online":
            return ()
        if method.tuner not in self._moved:
            self._moved[method.tuner] = self._movable(method)
        return self._moved[method.tuner]

    def _movable(self, method: ComparedMethod) -> tuple[TunedKey, ...]:
        moved = self.keys
        while moved:
            held = {key.key: key.middle for key in self.keys if key not in moved}
            try:
                parse_study(_text({**placed(self.content, held), **self._team(method)}))
                return moved
            except Mistakes as error:
                wrong = [mistake.key for mistake in error.mistakes]
                left = tuple(key for key in moved if not any(_is_of(key, one) for one in wrong))
                if left == moved:
                    raise
                moved = left
        raise Mistakes([SettingError("", "it can tune nothing of this study")])

    # What is held, drawn and moved -------------------------------------------------------------------

    def _baseline(self, method: ComparedMethod, seed: int) -> dict[str, Any]:
        content = copy.deepcopy(dict(self.content))
        if method.name == RULE:
            for name, value in rule_study(self.study).values.items():
                key = name if name.startswith(PREFIX) else f"regularizers.{name}"
                content = placed(content, {f"{key}.start": value})
        return content

    def _drawn(self, method: ComparedMethod) -> dict[str, Any]:
        """The study with a number in the place of what is drawn and held."""
        moved = {key.key for key in self.moved(method)}
        return placed(self.content, {key.key: key.middle for key in self.keys if key.key not in moved})

    def _over(self, method: ComparedMethod) -> dict[str, Any]:
        moved = {key.key for key in self.moved(method)}
        over: dict[str, Any] = {}
        for key in self.keys:
            names = list(key.starts) if key.key in moved else [key.key]
            over |= {name: key.distribution.to_mapping() for name in names}
        return over

    def _starts(self, method: ComparedMethod) -> dict[str, Any]:
        """The study's start values: what the method moves starts there, the rest is held there."""
        moved = {key.key for key in self.moved(method)}
        starts: dict[str, Any] = {}
        for key in self.keys:
            starts |= key.starts if key.key in moved else {key.key: median_low(key.starts.values())}
        return starts

    # Sections ----------------------------------------------------------------------------------------

    def _budget(self) -> dict[str, Any]:
        settings = self.settings
        return {"seconds": settings.seconds} if settings.steps is None else {"steps": settings.steps}

    def _population(self, method: ComparedMethod) -> int:
        length = self.study.budget.steps
        assert length is not None
        if self.settings.steps is None:
            return POPULATION
        return max(1, self.settings.steps // (length * self.members(method)))

    def _written(
        self, content: dict[str, Any], method: ComparedMethod, seed: int, section: Mapping[str, Any]
    ) -> str:
        name = f"{self.study.study[:_LONGEST_NAME]}-{method.name}".replace("+", "-")
        concurrent = {} if self.settings.concurrent is None else {"concurrent": self.settings.concurrent}
        written = {
            **content,
            **self._team(method),
            "study": name,
            "seed": seed,
            "sweep": {**section, **concurrent},
        }
        return _text(written)

    def _team(self, method: ComparedMethod) -> dict[str, Any]:
        trainers = self.content.get("trainers") or {}
        return {"method": self._method(method), "trainers": {**trainers, "number": self.members(method)}}

    def _method(self, method: ComparedMethod) -> Any:
        """The study's own settings of a method where it has some, those recommended where it has none."""
        own = self.content.get("method")
        if method.kind == "online" and isinstance(own, Mapping) and own.get("name") == method.tuner:
            return dict(own)
        return {"name": method.tuner if method.kind == "online" else HELD}


def _single(seed: int) -> dict[str, Any]:
    """One trial with nothing to draw."""
    return {"over": {"seed": {"choice": [seed]}}, "trials": 1}


def _is_of(key: TunedKey, mistake: str) -> bool:
    """Whether a mistake is in what is written at a key."""
    return mistake == key.key or mistake.startswith((f"{key.key}.", f"{key.key}["))


def _text(content: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(content), sort_keys=False)
    return text


def _at(moved: TunedKey | None, key: str, value: Any) -> dict[str, Any]:
    return {key: value} if moved is None else dict.fromkeys(moved.starts, value)
