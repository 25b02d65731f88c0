"""The study as it was started, and where it runs: started.json, by which an edited study file is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selftune.fields import shown
from selftune.storage.checked_json import read_json, write_json
from selftune.studies.mistakes import UserError
from selftune.studies.yaml_file import parse_yaml

NAME = "started.json"
PROCESS, RAY = "this process", "Ray"
BUDGETS = ("budget.steps", "budget.seconds", "budget.work")
CPUS = "trainers.cpus"
HANG_AFTER = "trainers.hang_after"


def write_original(folder: Path, text: str, local: bool) -> None:
    """Keeps what a study file says, and whether the study runs in this process or on Ray."""
    write_json(folder / NAME, {"runs": PROCESS if local else RAY, "study": parse_yaml(text)})


def read_original(folder: Path) -> dict[str, Any]:
    """What ``write_original`` kept.

    Raises:
        UserError: if it is missing.
        DamagedFile: if it is not what was written.
    """
    try:
        return read_json(folder / NAME)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder / NAME}: is missing, and with it how the study was started; put it back, or run the study"
            " anew in another folder"
        ) from error


def check_unchanged(folder: Path, text: str, tuned: bool, file: Path | None = None) -> None:
    """Refuses a study file that says something else than when the study was started.

    A larger budget may be given until tuning has ended, another number of cpus in this process, and another time
    after which trainers hang.

    Args:
        text: what the study file says now.
        tuned: whether tuning has ended.
        file: the study file; None for that of the folder.

    Raises:
        UserError: with the first key that differs.
    """
    started = read_original(folder)
    before, now = _flat(started["study"]), _flat(parse_yaml(text))
    for key in sorted(before.keys() | now.keys()):
        then, given = before.get(key), now.get(key)
        if then == given and type(then) is type(given):
            continue
        if key == HANG_AFTER or (key == CPUS and started["runs"] == PROCESS):
            continue
        if key in BUDGETS and not tuned and _is_larger(then, given):
            continue
        raise UserError(
            f"{file or folder / 'study.yaml'}: {key}: was {shown(then)} when the study was started, now it is"
            f" {shown(given)}; put that back, or run the changed study in another folder"
        )


def _is_larger(then: Any, given: Any) -> bool:
    return all(isinstance(value, int | float) for value in (then, given)) and given > then


def _flat(content: Any, key: str = "") -> dict[str, Any]:
    """Values by dotted key; an empty mapping or list is a value.

    >>> _flat({"budget": {"steps": 60}, "regularizers": {}})
    {'budget.steps': 60, 'regularizers': {}}
    """
    if isinstance(content, Mapping) and content:
        items = list(content.items())
    elif isinstance(content, list) and content:
        items = list(enumerate(content))
    else:
        return {key: content}
    flat: dict[str, Any] = {}
    for name, value in items:
        flat |= _flat(value, f"{key}.{name}" if key else str(name))
    return flat
