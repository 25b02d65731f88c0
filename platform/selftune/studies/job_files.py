"""What a study needs of this machine to run on another one: its file, data, packages installed from source."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selftune.errors import SettingError
from selftune.studies.mistakes import Mistakes, UserError
from selftune.studies.yaml_file import parse_yaml, read_text

STUDY = "study.yaml"
"""How the study file is called there."""
LARGEST = 100 * 2**20
"""Bytes that are sent at most."""
_GROUPS = ("tasks", "methods", "regularizers", "diagnostics", "solvers")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip file, which a cluster gets once


def data_of(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The strings of a study that can be paths, with their keys.

    >>> [*data_of({"objective": {"task": "table", "dataset": "houses.csv", "ignore": ["id"]}})]
    [('objective.dataset', 'houses.csv')]
    """
    if isinstance(content, dict):
        for name, value in content.items():
            if name not in ("task", "name"):
                yield from data_of(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from data_of(value, f"{key}.{number}")
    elif isinstance(content, str) and ("." in content or "/" in content):
        yield key, content


def pack(study: Path, into: Path) -> None:
    """Makes the zip file that becomes the working directory of a job.

    A path in the study that begins with ``/`` or ``~`` is one of the cluster. Other paths, which are below the
    current folder as ever, are sent, and so are packages that are installed here from their source and add
    entries to selftune.

    Raises:
        UserError: if something cannot be read or sent.
    """
    try:
        text = read_text(study)
        content = parse_yaml(text)
    except Mistakes as error:
        raise error.in_file(str(study)) from error
    files: dict[str, Path] = {}
    try:
        for key, given in data_of({"objective": content.get("objective"), "sweep": content.get("sweep")}):
            files.update(_data(key, given))
    except SettingError as error:
        raise Mistakes([error]).in_file(str(study)) from error
    for distribution in _written_here():
        files.update(_package(distribution))
    files.pop(STUDY, None)
    size = sum(path.stat().st_size for path in files.values())
    if size > LARGEST:
        name, largest = max(files.items(), key=lambda one: one[1].stat().st_size)
        shares = (
            f"{_mebibytes(size)} would be sent with it, of which {name} has {_mebibytes(largest.stat().st_size)}"
        )
        raise UserError(
            f"{study}: {shares}, and {_mebibytes(LARGEST)} may be; bring it to the cluster and give its path"
        )
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(_entry(STUDY), text.encode())
        for name, path in sorted(files.items()):
            packed.writestr(_entry(name), path.read_bytes())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _data(key: str, given: str) -> Iterator[tuple[str, Path]]:
    """The files that a string means, if it means some, by their names below the current folder."""
    path = Path(given)
    if path.is_absolute() or given.startswith("~") or "://" in given:
        return
    try:
        if not path.exists():
            return
    except OSError:  # too long for a name
        return
    if not path.resolve().is_relative_to(Path.cwd()):
        raise SettingError(
            key, f"{given} is not below the current folder; start from a folder above it, or give its path there"
        )
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            yield one.as_posix(), one


def _written_here() -> Iterator[Distribution]:
    """The packages beside selftune that add entries to it and are installed from their source."""
    found = {}
    for group in _GROUPS:
        for entry in entry_points(group=f"selftune.{group}"):
            if entry.dist is not None and entry.dist.name != "selftune":
                found[entry.dist.name] = entry.dist
    for distribution in found.values():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable", False):
            yield distribution


def _package(distribution: Distribution) -> Iterator[tuple[str, Path]]:
    """The modules that a package's entry points name, and what says that it is installed."""
    for entry in distribution.entry_points:
        found = find_spec(name := entry.module.partition(".")[0])
        if not entry.group.startswith("selftune.") or found is None:
            continue
        for place in found.submodule_search_locations or []:
            for path in sorted(Path(place).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield f"{name}/{path.relative_to(place).as_posix()}", path
        if not found.submodule_search_locations and found.origin:
            yield f"{name}.py", Path(found.origin)
    folder = f"{distribution.name.replace('-', '_')}-{distribution.version}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        path = Path(str(distribution.locate_file(f"{folder}/{name}")))
        if path.is_file():
            yield f"{folder}/{name}", path
