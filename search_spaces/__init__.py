"""Packaged study files (``*.yaml``), and the named search spaces: for every family of regularizers a file in
``spaces/`` that says what a search draws their hyperparameters from."""

from __future__ import annotations

from importlib.resources import files

from selftune.errors import SettingError, suggestion


def space_names() -> list[str]:
    """The names of the search spaces.

    >>> "supervision" in space_names()
    True
    """
    found = (entry.name for entry in files(__name__).joinpath("spaces").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def space(name: str) -> dict[str, dict[str, list[float | int | bool | str]]]:
    """A named search space: key of a study file -> distribution, as ``distribution_of`` reads it.

    For a study, take those keys whose regularizers are in it; ``distribution_of(...).to_ray()`` makes a search
    domain of Ray Tune, ``to_optuna()`` a distribution of Optuna.

    Raises:
        SettingError: if there is no such space.

    >>> space("supervision")["regularizers.mixup.alpha"]
    {'log_uniform': [0.05, 8.0]}
    """
    known = space_names()
    if name not in known:
        raise SettingError("space", f"unknown search space {name!r}; {suggestion(str(name), known)}")
    import yaml

    text = files(__name__).joinpath("spaces", f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, list[float | int | bool | str]]] = yaml.safe_load(text)
    return loaded
