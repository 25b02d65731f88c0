"""The orders that restarted trainers may have to do again, in files beside a record: each is written once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from selftune.methods import WorkOrder
from selftune.shapes import Tensor
from selftune.storage.files import DamagedFile
from selftune.storage.state_file import load_state, save_state

KIND = "orders"
_NAME = re.compile(r"orders-(\d+)\.safetensors")
_MOST = 32  # files; more are made one

Logs = Mapping[int, Sequence[WorkOrder]]
"""Orders of each member, oldest first, with consecutive numbers."""


class OrderLog:
    """Writes what is new in the members' logs; a record says which files and which numbers count.

    A log grows at its end and is forgotten from its beginning; an order that changed is written again.

    Args:
        folder: of the files.
        given: objects that reader and writer have; see ``save_state``.
        index: of the record that is gone on from.
        logs: what it says.
    """

    def __init__(
        self,
        folder: Path,
        given: Mapping[str, Any],
        index: Mapping[str, Any] | None = None,
        logs: Logs | None = None,
    ) -> None:
        self._folder, self._given = folder, given
        self._files: dict[int, dict[tuple[int, int], WorkOrder]] = {}
        self._before: list[int] = [] if index is None else list(index["files"])
        self._next = 1 + max((number for number, _ in _files(folder)), default=-1)
        if logs:  # in one file of this run's own
            self._write({(member, order.number): order for member, log in logs.items() for order in log})

    @property
    def paths(self) -> list[Path]:
        """The files that hold what counts."""
        return [_path(self._folder, number) for number in sorted(self._files)]

    def write(self, logs: Logs) -> dict[str, Any]:
        """Writes what no file holds yet; what is to be in the record."""
        wanted = {(member, order.number): order for member, log in logs.items() for order in log}
        where = {key: number for number, content in self._files.items() for key in content}
        new = {
            key: order
            for key, order in wanted.items()
            if key not in where or self._files[where[key]][key] is not order
        }
        for key in new:
            if key in where:
                del self._files[where[key]][key]
        self._files = {
            number: kept
            for number, content in self._files.items()
            if (kept := {key: order for key, order in content.items() if key in wanted})
        }
        if len(self._files) >= _MOST:
            self._files, new = {}, wanted
        if new:
            self._write(new)
        first = {member: log[0].number for member, log in logs.items() if log}
        return {"files": sorted(self._files), "first": first}

    def forget(self) -> None:
        """Removes the files that neither the record that was just written needs nor the one before it."""
        needed = {*self._files, *self._before}
        self._before = sorted(self._files)
        for number, path in _files(self._folder):
            if number not in needed:
                path.unlink(missing_ok=True)

    def _write(self, orders: Mapping[tuple[int, int], WorkOrder]) -> None:
        alike: dict[int, list[tuple[WorkOrder, list[int]]]] = {}  # of a number: members of a team get the same
        for (member, number), order in orders.items():
            known = alike.setdefault(number, [])
            members = next((members for other, members in known if _is_same(order, other)), None)
            if members is None:
                known.append((order, [member]))
            else:
                members.append(member)
        content = [[order, members] for known in alike.values() for order, members in known]
        save_state(_path(self._folder, self._next), content, KIND, self._given)
        self._files[self._next] = dict(orders)
        self._next += 1


def read_logs(folder: Path, given: Mapping[str, Any], index: Mapping[str, Any]) -> dict[int, list[WorkOrder]]:
    """The logs that a record's entry says.

    Raises:
        DamagedFile: if a file is missing or damaged.
    """
    found: dict[int, dict[int, WorkOrder]] = {member: {} for member in index["first"]}
    for number in index["files"]:
        path = _path(folder, number)
        try:
            content = load_state(path, KIND, given)
        except FileNotFoundError as error:
            raise DamagedFile(f"{path}: is missing") from error
        for order, members in content:
            for member in members:
                if member in found and order.number >= index["first"][member]:
                    found[member][order.number] = order  # that of a later file counts
    return {member: [log[number] for number in sorted(log)] for member, log in found.items()}


def _is_same(one: WorkOrder, other: WorkOrder) -> bool:
    """Whether a file need hold only one of them."""
    if type(one) is not type(other):
        return False
    return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _path(folder: Path, number: int) -> Path:
    return folder / f"orders-{number}.safetensors"


def _files(folder: Path) -> Iterable[tuple[int, Path]]:
    for path in sorted(folder.glob("orders-*.safetensors")):
        if (match := _NAME.fullmatch(path.name)) is not None:
            yield int(match[1]), path
