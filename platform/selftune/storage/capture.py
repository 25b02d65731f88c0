"""What a folder in which somebody writes holds at one moment, as a run that is killed at that moment leaves it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Signature = tuple[int, int, int]
"""Inode, time of the last change, and size: a file that was replaced or changed has another one."""

_LEFT_OUT = re.compile(
    r"(.*/)?(\.([^/]*\.)?lock|\.[^/]+\.partial|\.driver-[^/]+|new\.[^/]+\.safetensors|stop\.request)"
    r"|\.lease/.*"
    r"|(.*/)?ray/run-(?!.*/checkpoint_).*"  # what Tune keeps for itself, and nobody reads
)
_ORDER = (
    # Of two kinds the earlier one relies on the later one: a checkpoint on the rows before it, rows on the table
    # that earlier rows were folded into, a summary on the network that it tells of.
    re.compile(r"(.*/)?(summary\.json|comparison\.json|checkpoints/[^/]+\.safetensors|ray/record\.[^/]+)"),
    re.compile(r".*\.arrows"),
    re.compile(r".*\.parquet"),
    re.compile(r"(?!(.*/)?(study\.yaml|started\.json)$).*"),
    re.compile(r"(.*/)?study\.yaml"),  # without it, a folder that holds anything is no run's
    re.compile(r"(.*/)?started\.json"),
)
KINDS = len(_ORDER)
RECORDS = 0
"""The kind that relies on all others."""
_ATTEMPTS = 20


class Restless(OSError):
    """A folder changes faster than it can be captured."""


@dataclass(frozen=True)
class CapturedFile:
    """A file as it was.

    Args:
        name: below the folder, with slashes.
        kind: of ``_ORDER``; a file relies on those of higher kinds alone.
        path: where its content is kept, in its first ``size`` bytes.
    """

    name: str
    kind: int
    path: Path
    size: int
    signature: Signature


@dataclass(frozen=True)
class Capture:
    """What a folder held: the files that have changed, and the names of all."""

    changed: list[CapturedFile]
    names: set[str]


def belongs(name: str) -> bool:
    """Whether a file of a run's folder is one that the run needs later, or a person wants to see.

    >>> belongs("ray/record.safetensors"), belongs("ray/run-0/trial/checkpoint_000001/trainer.safetensors")
    (True, True)
    >>> belongs("ray/run-0/tuner.pkl"), belongs(".lock"), belongs("plots/.losses.svg.12.partial")
    (False, False, False)
    """
    return _LEFT_OUT.fullmatch(name) is None


def kind_of(name: str) -> int:
    """The place of a file's kind among those that rely on each other; see ``CapturedFile``.

    >>> [kind_of(name) for name in ("ray/record.safetensors", "trajectory.arrows", "ray/orders-1.safetensors")]
    [0, 1, 3]
    """
    return next(kind for kind, names in enumerate(_ORDER) if names.fullmatch(name))


def capture(folder: Path, into: Path, known: Mapping[str, Signature]) -> Capture:
    """What a folder holds at this moment.

    Files are linked, not copied: all that is done with them is that they are replaced, or longer.

    Args:
        folder: of a run.
        into: an empty folder on the same disk, for the files that have changed.
        known: those whose content is not needed, because it is known.

    Raises:
        Restless: if its records change all the time.
        OSError: if a file cannot be read.
    """
    for _ in range(_ATTEMPTS):
        changed: list[CapturedFile] = []
        names: set[str] = set()
        records: dict[str, Signature] = {}
        for kind in range(KINDS):
            for name, found in _signatures(folder, kind).items():
                names.add(name)
                if kind == RECORDS:
                    records[name] = found
                if known.get(name) != found:
                    with suppress(
                        FileNotFoundError
                    ):  # removed or being replaced; the records say whether it matters
                        changed.append(_kept(folder, name, kind, into))
        if _signatures(folder, RECORDS) == records:
            return Capture(changed, names)
        for one in changed:
            one.path.unlink(missing_ok=True)
    raise Restless(f"{folder}: changes faster than it can be read")


def _signatures(folder: Path, kind: int) -> dict[str, Signature]:
    found = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if belongs(name) and kind_of(name) == kind:
            with suppress(FileNotFoundError):
                found[name] = signature(path)
    return found


def signature(path: Path) -> Signature:
    """What a file has as long as nobody changes or replaces it.

    Raises:
        FileNotFoundError: if there is none.
    """
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def _kept(folder: Path, name: str, kind: int, into: Path) -> CapturedFile:
    source, path = folder / name, into / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:  # a disk without links
        shutil.copy2(source, path)
    found = signature(source if path.stat().st_nlink == 1 else path)
    return CapturedFile(name, kind, path, path.stat().st_size, found)
