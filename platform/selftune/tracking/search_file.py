"""search.json: what a search draws from, and how it goes, for whoever reads its trials."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from selftune.hyperparameters.distribution import distribution_of
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.search.searchers import SEARCHERS
from selftune.search.trial_schedulers import TRIAL_SCHEDULERS
from selftune.storage.checked_json import read_json, write_json
from selftune.storage.files import DamagedFile

SEARCH_FILE = "search.json"


def write_search(folder: Path, space: SearchSpace, settings: SearchSettings) -> None:
    """Writes space and settings of a search into its folder.

    >>> import tempfile
    >>> from selftune.hyperparameters.distribution import LogUniform
    >>> folder = Path(tempfile.mkdtemp())
    >>> space = SearchSpace((Swept("objective.optimization.learning_rate", LogUniform(1e-3, 1e-1)),))
    >>> settings = SearchSettings(metric="validation_loss", mode="min", report_every=50, trials=20)
    >>> write_search(folder, space, settings)
    >>> read_search(folder) == (space, settings)
    True
    """
    swept = [
        {
            "key": one.key,
            "distribution": one.distribution.to_mapping(),
            "when": {key: list(options) for key, options in one.when.items()},
        }
        for one in space
    ]
    plain = {field.name: getattr(settings, field.name) for field in fields(settings)}
    plain["searcher"] = _named(settings.searcher, SEARCHERS)
    plain["scheduler"] = _named(settings.scheduler, TRIAL_SCHEDULERS)
    write_json(Path(folder) / SEARCH_FILE, {"space": swept, "settings": plain})


def read_search(folder: Path) -> tuple[SearchSpace, SearchSettings]:
    """The space and the settings of a search.

    Raises:
        FileNotFoundError: if the folder holds no search that has started.
        DamagedFile: if the file is not what was written, or another version of selftune wrote it.
    """
    path = Path(folder) / SEARCH_FILE
    content = read_json(path)
    try:
        space = SearchSpace(
            tuple(
                Swept(
                    one["key"],
                    distribution_of(one["distribution"]),
                    {key: tuple(options) for key, options in one["when"].items()},
                )
                for one in content["space"]
            )
        )
        plain = dict(content["settings"])
        plain["searcher"] = _built(plain["searcher"], SEARCHERS)
        plain["scheduler"] = _built(plain["scheduler"], TRIAL_SCHEDULERS)
        return space, SearchSettings(**plain)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamagedFile(f"{path}: was written by another version of selftune; read it with that one") from error


def name_of(settings: object, named: dict[str, type[Any]]) -> str:
    """What a study file calls a searcher or a scheduler with these settings.

    >>> from selftune.search.searchers import TPESearch
    >>> name_of(TPESearch(), SEARCHERS)
    'tpe'
    """
    return next(name for name, kind in named.items() if type(settings) is kind)


def _named(settings: Any, named: dict[str, type[Any]]) -> dict[str, Any]:
    return {"name": name_of(settings, named), **asdict(settings)}


def _built(plain: dict[str, Any], named: dict[str, type[Any]]) -> Any:
    given = dict(plain)
    return named[given.pop("name")](**given)
