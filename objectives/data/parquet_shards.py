"""Parquet in several files, as Hugging Face stores data sets: ``train-00000-of-00002.parquet`` and the like."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from selftune.objectives.data.data_files import is_parquet
from selftune.objectives.data.pictures import SUFFIXES
from selftune.objectives.data.splits import split_called

from selftune.data import SPLITS
from selftune.errors import SettingError

SHARDS = "a folder of Parquet files, such as train-00000-of-00002.parquet"
SHARD_SUFFIXES = (".parquet", ".pq")
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class Shard:
    """A Parquet file that holds some rows of a data set.

    Attributes:
        path: of the file.
        split: of all of its rows, as its name says; None where it says none.
    """

    path: Path
    split: str | None = None


def is_sharded(folder: Path) -> bool:
    """Whether a folder holds Parquet files; one with pictures in its folders is a folder of images.

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> _ = (folder / "train-00000-of-00001.parquet").write_bytes(b"")
    >>> is_sharded(folder)
    True
    """
    found = False
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if Path(where) != folder and any(name.lower().endswith(SUFFIXES) for name in names):
            return False
        found = found or any(_is_shard(name) for name in names)
    return found


def shards_of(path: Path) -> tuple[Shard, ...]:
    """The Parquet files of a data set: a file itself, or those of a folder, in the order of splits and names.

    Files lie in the folder, in one folder of it, or in a folder for every split. Their names say their split
    (``train-00000-of-00002.parquet``, ``test.parquet``, ``validation/0000.parquet``), or those of none does.

    Raises:
        SettingError: under the key ``path``, if files are missing, are no Parquet, or some do not say their split.
    """
    if not path.is_dir():
        return (Shard(path),)
    shards = _inside(path)
    _check_all_there(shards)
    for shard in shards:
        if not is_parquet(shard.path):
            raise SettingError("path", f"{shard.path} is no Parquet file, in spite of its name; download it anew")
    named = [shard for shard in shards if shard.split]
    if not named:
        return tuple(shards)
    if len(named) < len(shards):
        other = next(shard for shard in shards if not shard.split)
        raise SettingError(
            "path",
            f"{other.path} does not say its split, as {named[0].path.name} does; rename it to train, validation"
            " or test, or move it elsewhere",
        )
    if not any(shard.split == "train" for shard in named):
        found = sorted({str(shard.split) for shard in named})
        raise SettingError("path", f"{path} has {' and '.join(found)} files but no training ones; add some")
    return tuple(sorted(named, key=lambda shard: SPLITS.index(str(shard.split))))


def _inside(folder: Path, split: str | None = None) -> list[Shard]:
    files = sorted(file for file in folder.iterdir() if _is_shard(file.name) and not file.is_dir())
    if files:
        return [Shard(file, split or _split_in(file.stem)) for file in files]
    inner = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    inner = [one for one in inner if is_sharded(one)]
    parts = {one: split_called(one.name) for one in inner}
    if len(inner) > 1 and not all(parts.values()):
        names = ", ".join(one.name for one in inner[:3])
        raise SettingError(
            "path", f"{folder} holds Parquet files in several folders, {names}; give one of them: {inner[0]}"
        )
    return [shard for one, part in parts.items() for shard in _inside(one, split or part)]


def _is_shard(name: str) -> bool:
    return name.lower().endswith(SHARD_SUFFIXES) and not name.startswith(".")


def _split_in(stem: str) -> str | None:
    return next(filter(None, map(split_called, re.split(r"[._-]", stem))), None)


def _check_all_there(shards: list[Shard]) -> None:
    """Refuses a download that was broken off: names say how many files there should be."""
    there = {shard.path for shard in shards}
    for shard in shards:
        numbered = _NUMBERED.fullmatch(shard.path.stem)
        if numbered is None:
            continue
        name, _, number = numbered.groups()
        for position in range(int(number)):
            other = shard.path.with_stem(f"{name}-{position:05}-of-{number}")
            if other not in there:
                raise SettingError("path", f"{other} is missing beside {shard.path.name}; download it")
