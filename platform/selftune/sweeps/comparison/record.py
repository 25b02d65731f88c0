"""comparison.json: what is compared, how, and what came of each cell so far. A comparison goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from selftune.storage.checked_json import read_json, write_json
from selftune.storage.files import DamagedFile
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.outcome import Outcome

FILE = "comparison.json"


@dataclass(frozen=True)
class ComparisonRecord:
    """How a comparison stands.

    Args:
        text: of the study file.
        settings: how methods are compared.
        name: of the study.
        metric, mode: what is best.
        outcomes: by name of the cell; those that are missing have not ended.
        failures: why cells failed, by name.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> settings = ComparisonSettings(methods=("held", "tpe"), steps=8000)
    >>> record = ComparisonRecord("study: digits", settings, "digits", "validation_loss", "min")
    >>> record.with_outcome("held-0", Outcome(best=(0.5,), spent=(1000,), computed=(3.0,))).write(folder)
    >>> read_record(folder).outcomes["held-0"].best
    [0.5]
    """

    text: str
    settings: ComparisonSettings
    name: str
    metric: str
    mode: Literal["min", "max"]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def with_outcome(self, cell: str, outcome: Outcome) -> ComparisonRecord:
        """The record once a cell has ended."""
        failures = {name: message for name, message in self.failures.items() if name != cell}
        return replace(self, outcomes={**self.outcomes, cell: outcome}, failures=failures)

    def with_failure(self, cell: str, message: str) -> ComparisonRecord:
        """The record once a cell has failed; it is tried again when the comparison is resumed."""
        return replace(self, failures={**self.failures, cell: message})

    def write(self, folder: Path, **further: Any) -> None:
        """Replaces the file; ``further`` numbers are for whoever reads it.

        Raises:
            OSError: if it cannot be written.
        """
        content = {
            "study": self.name,
            "metric": self.metric,
            "mode": self.mode,
            "settings": {**asdict(self.settings), "methods": list(self.settings.methods)},
            "text": self.text,
            "cells": {name: outcome.to_mapping() for name, outcome in self.outcomes.items()},
            "failures": dict(self.failures),
            **further,
        }
        write_json(folder / FILE, content)


def is_comparison(folder: Path) -> bool:
    """Whether a folder is the output folder of a comparison."""
    return (folder / FILE).is_file()


def read_record(folder: Path) -> ComparisonRecord:
    """How the comparison of a folder stands.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFile: if the file is not what was written.
    """
    content = read_json(folder / FILE)
    try:
        settings = content["settings"]
        return ComparisonRecord(
            content["text"],
            ComparisonSettings(**{**settings, "methods": tuple(settings["methods"])}),
            content["study"],
            content["metric"],
            content["mode"],
            {name: Outcome(**outcome) for name, outcome in content["cells"].items()},
            content["failures"],
        )
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{folder / FILE}: was written by another version of selftune; go on with that one"
        ) from error
