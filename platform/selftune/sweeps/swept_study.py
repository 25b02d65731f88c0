"""A study whose section ``sweep`` says which of its keys are searched over: a study for every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from selftune.search import SearchSettings, SearchSpace
from selftune.studies.mistakes import Mistakes
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.sweeps.placed import placed


@dataclass(frozen=True, eq=False)
class SweptStudy:
    """A study that is swept, as ``parse_sweep`` makes it.

    Args:
        text: that of the file, for the copy in the output folder.
        content: of the file, without the section.
        study: a sample from the middle of the space, with the file's text; its name, trainers, budget and metric
            are those of all.
        space: what is swept.
        settings: how.
    """

    text: str
    content: Mapping[str, Any]
    study: Study
    space: SearchSpace
    settings: SearchSettings

    def text_of(self, values: Mapping[str, Any]) -> str:
        """The study file of one trial, given the values of the swept keys."""
        return text_of(self.content, values)

    def sample(self, values: Mapping[str, Any]) -> Study:
        """The study of one trial.

        Raises:
            Mistakes: if its values do not fit together.
        """
        return parse_study(self.text_of(values))

    def refusal(self, values: Mapping[str, Any]) -> str | None:
        """Why a trial with these values is refused, in one sentence; None if it is right."""
        try:
            self.sample(values)
        except Mistakes as error:
            return str(error.mistakes[0])
        return None


def text_of(content: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """A study file with values at their keys."""
    text: str = yaml.safe_dump(placed(content, values), sort_keys=False)
    return text
