"""A comparison: one study, several methods, several seeds; every pair of them is a sweep of its own, a cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective
from selftune.search.searchers import SEARCHERS
from selftune.studies.mistakes import Mistakes, mistake
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.studies.yaml_file import parse_yaml
from selftune.sweeps.comparison.compared_method import ComparedMethod, compared_method, compared_methods
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.method_sweep import MethodSweeps
from selftune.sweeps.comparison.tuned_space import TunedKey, tuned_keys
from selftune.sweeps.sweep_file import SECTION, parse_sweep
from selftune.sweeps.swept_study import SweptStudy

_RANDOM = "random"


@dataclass(frozen=True)
class Cell:
    """One sweep of a comparison.

    Args:
        method: how it tunes.
        seed: of the study and of the draws.
        text: the study file with its section ``sweep``.
        by_start: whether it is single trials from random starts, which are looked at one by one.
    """

    method: ComparedMethod
    seed: int
    text: str
    by_start: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method.name}-{'starts' if self.by_start else self.seed}"

    @cached_property
    def swept(self) -> SweptStudy:
        return parse_sweep(self.text)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A study under several methods, as ``comparison_of`` makes it.

    Args:
        study: what is compared, checked.
        settings: how.
        methods: in the order of the rows.
        cells: in the order in which they are run: all methods with one seed, then with the next.
    """

    study: Study
    settings: ComparisonSettings
    methods: tuple[ComparedMethod, ...]
    cells: tuple[Cell, ...]

    @property
    def length(self) -> int:
        """Training steps of a trial."""
        assert self.study.budget.steps is not None
        return self.study.budget.steps

    @property
    def axis(self) -> Literal["spent", "computed"]:
        """What the budget counts: training steps of all networks, or seconds that trainers compute."""
        return "computed" if self.settings.steps is None else "spent"

    @property
    def notes(self) -> list[str]:
        """What a reader of the results should know: searchers that learn nothing within the budget."""
        if self.settings.steps is None:
            return []
        trials = self.settings.steps // self.length
        learning = {
            method.name: getattr(SEARCHERS[method.searcher](), "startup_trials", 0) for method in self.methods
        }
        return [
            f"{name}: its first {random} trials are random, and the budget lasts for {trials}, so that it is"
            " random search"
            for name, random in learning.items()
            if random >= trials
        ]


def comparison_of(
    text: str, settings: ComparisonSettings, seed: int | None = None, steps: int | None = None
) -> Comparison:
    """The comparison of methods on a study file; everything about it is checked, nothing is run.

    Args:
        text: of the file.
        seed, steps: replace what the file says.

    Raises:
        Mistakes: what of the file does not fit a comparison; keys are those of the file.
        SettingError: what of the settings does not fit the file; its key is that of a setting.
    """
    if SECTION in parse_yaml(text):
        raise mistake(SECTION, "cannot be compared: each method is a sweep of its own; take the section out")
    study = parse_study(text, seed, steps)
    found = list(_unfit(study))
    if found:
        raise Mistakes(found)
    methods = compared_methods(settings.methods, study.objective)
    keys = tuned_keys(study)
    sweeps = MethodSweeps(parse_yaml(study.text), study, keys, settings)
    _check_budget(sweeps, methods)
    try_out = [_checked(sweeps, method, study.seed) for method in methods]
    seeds = range(study.seed + 1, study.seed + settings.seeds)
    cells = [*try_out, *(Cell(method, one, sweeps.text(method, one)) for one in seeds for method in methods)]
    return Comparison(study, settings, methods, (*cells, *_by_start(sweeps, methods)))


def _unfit(study: Study) -> Iterator[SettingError]:
    """Why methods cannot be compared on a study."""
    if not isinstance(study.objective, NetworkObjective):
        yield SettingError("objective.task", "is a smooth problem; only studies that train networks are compared")
        return
    if study.horizon is not None:
        yield SettingError("horizon", "is for a study by itself; leave it out where methods are compared")
    if not study.space.tuned:
        yield SettingError("regularizers", "tunes nothing, so there is nothing to compare; give one a start")
    if study.budget.steps is None:
        yield SettingError("budget", "must be in steps, so that all trials train equally long; give --steps")
    if study.budget.patience is not None:
        yield SettingError(
            "budget.patience", "would end trials at different lengths; take it out, the best network counts anyway"
        )


def _check_budget(sweeps: MethodSweeps, methods: Sequence[ComparedMethod]) -> None:
    given, length = sweeps.settings.steps, sweeps.study.budget.steps
    assert length is not None
    for method in methods:
        members = sweeps.members(method)
        if given is not None and given < length * members:
            of = "" if members == 1 else f" of {members} networks"
            raise SettingError(
                "budget",
                f"lasts for less than one trial of {method.name}, which is {length:,} training steps{of}; give at"
                f" least {length * members:,}, or shorter trials with --steps",
            )


def _checked(sweeps: MethodSweeps, method: ComparedMethod, seed: int) -> Cell:
    """The cell of a method.

    Raises:
        SettingError: why the study cannot be swept by it.
    """
    try:
        cell = Cell(method, seed, sweeps.text(method, seed))
        assert cell.swept
    except Mistakes as error:
        first = error.mistakes[0]
        if first.key == f"{SECTION}.trials":  # of a population, which the budget makes
            population = first.message.partition(";")[0].removeprefix("is ")
            raise SettingError(
                "budget", f"makes {population} with {method.name}; give more, or shorter trials with --steps"
            ) from error
        raise SettingError("methods", f"with {method.name}, {first}") from error
    return cell


def _by_start(sweeps: MethodSweeps, methods: Sequence[ComparedMethod]) -> Iterator[Cell]:
    """Random search and each method that tunes online, one trial from each of the same random starts."""
    number, seed = sweeps.settings.starts, sweeps.study.seed
    if not number:
        return
    draws = list(_draws(sweeps.keys, number, seed))
    online = [method for method in methods if method.kind == "online" and method.scheduler == "none"]
    for method in (*online, compared_method(_RANDOM, sweeps.study.objective)):
        yield Cell(method, seed, sweeps.starts_text(method, seed, draws), by_start=True)


def _draws(keys: Sequence[TunedKey], number: int, seed: int) -> Iterator[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        yield {key.key: key.distribution.sample(generator) for key in keys}
