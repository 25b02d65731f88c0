"""Records of a long benchmark: one file per cell of its table, whole or not there.

A benchmark that takes hours is stopped, killed and started again. ``CellRecords.run`` measures the cells that have
no record yet and writes one after each, so that nothing is measured twice; the same command goes on.

    records = CellRecords(Path("out"), settings={"steps": 2000})
    records.run([{"table": "wine", "seed": seed} for seed in range(3)], measure)
    print(records.state(cells))
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selftune.storage.files import remove_leftovers, replacing

Cell = Mapping[str, str | int | float]
"""Where a number stands in a benchmark's table, by coordinates, such as ``{"table": "wine", "seed": 0}``."""

PACKAGES = ("selftune", "torch", "numpy", "ray", "optuna", "scikit-learn")


class OtherSettings(ValueError):
    """A record was made with other settings; the message says which file and what to do, in one sentence."""


@dataclass(frozen=True)
class CellRecords:
    """A folder with a JSON file for every cell that was measured.

    A record holds the cell, the settings, what was measured, the seconds it took, the command line, the date and
    the versions of what ran.

    Args:
        folder: made if it is not there.
        settings: what all cells share and numbers depend on, such as training steps. A record that was made with
            others is not taken for one of these.

    >>> import tempfile
    >>> records = CellRecords(Path(tempfile.mkdtemp()), settings={"steps": 10})
    >>> cells = [{"table": "wine", "seed": seed} for seed in range(2)]
    >>> records.run(cells, lambda cell: {"loss": 0.5 + cell["seed"]}, say=lambda line: None)
    []
    >>> [record["result"]["loss"] for record in records.read(cells)]
    [0.5, 1.5]
    """

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    def path(self, cell: Cell) -> Path:
        """The file of a cell, named by its coordinates."""
        name = ",".join(f"{key}={quote(str(value), safe='')}" for key, value in cell.items())
        return self.folder / f"{name}.json"

    def finished(self, cell: Cell) -> bool:
        """Whether a cell has its record.

        Raises:
            OtherSettings: if it has one that was made with other settings.
        """
        path = self.path(cell)
        if not path.exists():
            return False
        found, ours = json.loads(path.read_text())["settings"], _as_read(self.settings)
        for key in sorted(found.keys() | ours.keys()):
            if found.get(key) != ours.get(key):
                raise OtherSettings(
                    f"{path} was measured with {key} {found.get(key)}, this run has {ours.get(key)}; "
                    "give the same, or another folder"
                )
        return True

    def write(self, cell: Cell, result: Mapping[str, Any], seconds: float) -> None:
        """Writes the record of a cell, at once and onto the disk."""
        record = {
            "cell": dict(cell),
            "settings": dict(self.settings),
            "result": dict(result),
            "seconds": round(seconds, 3),
            **_circumstances(),
        }
        self._put(self.path(cell), record)
        self.failure_path(cell).unlink(missing_ok=True)

    def failure_path(self, cell: Cell) -> Path:
        """The file that says why a cell failed, as long as it has no record."""
        return self.path(cell).with_suffix(".failed")

    def _write_failure(self, cell: Cell, error: Exception) -> None:
        said = "".join(traceback.format_exception(error))
        record = {"cell": dict(cell), "settings": dict(self.settings), "error": said, **_circumstances()}
        self._put(self.failure_path(cell), record)

    def _put(self, path: Path, record: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")

    def read(self, cells: Iterable[Cell]) -> list[dict[str, Any]]:
        """The records that are there, in the order of ``cells``."""
        return [json.loads(self.path(cell).read_text()) for cell in cells if self.finished(cell)]

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells without a record."""
        return [cell for cell in cells if not self.finished(cell)]

    def run(
        self,
        cells: Sequence[Cell],
        measure: Callable[[Cell], Mapping[str, Any]],
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> list[Cell]:
        """Measures every cell that has no record yet.

        A cell whose measurement raises is left out, with its traceback on stderr and in ``failure_path``, and the
        others go on; the next run tries it again. Several processes may share a folder, each with its own cells.

        Returns:
            The cells that failed; a command that gets any ends with exit status 1.
        """
        missing = self.missing(cells)
        if self.folder.exists():
            remove_leftovers(self.folder)
        say(f"{len(cells) - len(missing)} of {len(cells)} cells are there in {self.folder}, {len(missing)} to go")
        failed: list[Cell] = []
        for number, cell in enumerate(missing, 1):
            begin = time.perf_counter()
            try:
                result = measure(cell)
            # Whatever a library raises in one cell, after hours of others: it is said and kept, and they go on.
            except Exception as error:  # noqa: BLE001
                say(f"[{number}/{len(missing)}] {described(cell)} failed\n{traceback.format_exc()}")
                self._write_failure(cell, error)
                failed.append(cell)
                continue
            seconds = time.perf_counter() - begin
            self.write(cell, result, seconds)
            say(f"[{number}/{len(missing)}] {described(cell)}: {seconds:.1f} s")
        return failed

    def state(self, cells: Sequence[Cell]) -> str:
        """A table of what is there and what is missing: a row per value of the first coordinate."""
        rows: dict[str, list[Cell]] = {}
        for cell in cells:
            rows.setdefault(str(next(iter(cell.values()))), []).append(cell)
        first = next(iter(cells[0])) if cells else "cell"
        lines = []
        for name, of_row in rows.items():
            missing = self.missing(of_row)
            rest = "; ".join(map(self._described_rest, missing)) or "-"
            is_untouched = len(missing) == len(of_row) and not any(
                self.failure_path(cell).exists() for cell in missing
            )
            rest = "all" if is_untouched else rest
            lines.append([name, f"{len(of_row) - len(missing)} of {len(of_row)}", rest])
        return table([first, "there", "missing"], lines)

    def _described_rest(self, cell: Cell) -> str:
        rest = described(dict(list(cell.items())[1:]))
        return f"{rest} (failed)" if self.failure_path(cell).exists() else rest


def described(cell: Cell) -> str:
    """A cell in words.

    >>> described({"table": "wine", "seed": 0})
    'table wine, seed 0'
    """
    return ", ".join(f"{key} {value}" for key, value in cell.items())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, its columns as wide as what is in them.

    >>> print(table(["table", "loss"], [["wine", "0.5"]]))
    | table | loss |
    | ----- | ---- |
    | wine  | 0.5  |
    """
    lines = [[str(entry) for entry in row] for row in [columns, *rows]]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([entry.ljust(width) for entry, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what every benchmark of cells takes: where its records are, which cells, and whether to run at all."""
    parser.add_argument("--records", type=Path, required=True, help="folder of the records; the same one goes on")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only cells with this coordinate; may be given several times",
    )
    parser.add_argument(
        "--print",
        action="store_true",
        dest="print_only",
        help="measure nothing; print what is there and missing",
    )


def chosen(cells: Iterable[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that ``--only`` leaves: for every coordinate that is named, one of its values.

    Raises:
        ValueError: if no cell has such a coordinate, or none is left.

    >>> chosen([{"table": "wine", "seed": 0}, {"table": "iris", "seed": 0}], ["table=iris"])
    [{'table': 'iris', 'seed': 0}]
    """
    wanted: dict[str, set[str]] = {}
    for one in only:
        key, _, value = one.partition("=")
        wanted.setdefault(key, set()).add(value)
    cells = list(cells)
    for key, values in wanted.items():
        there = {str(cell[key]) for cell in cells if key in cell}
        for value in sorted(values - there):
            known = ", ".join(sorted(there)) or "no cell has this coordinate"
            raise ValueError(f"--only {key}={value}: there is no such cell; known: {known}")
    return [cell for cell in cells if all(str(cell.get(key)) in values for key, values in wanted.items())]


def _circumstances() -> dict[str, Any]:
    """How and when a record was made."""
    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, str]:
    """Versions of Python, of packages that numbers depend on, and of this repository."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # a copy without its history
        found["commit"] = "unknown"
    return found


def _as_read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a record gives them back: tuples are lists there."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return found
