"""trials.jsonl: what became of the trials of a search, a line whenever one started, reported, paused or ended."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from selftune.search import SearchSettings, SearchSpace, TrialRecord, TrialsListener
from selftune.storage.files import DamagedFile, replacing, write_all
from selftune.tracking.search_file import read_search, write_search
from selftune.tracking.trials import Trials

TRIALS_FILE = "trials.jsonl"
_CHECKSUM = ', "checksum": "'


class TrialsWriter(TrialsListener):
    """Writes ``search.json`` and ``trials.jsonl`` into the folder of a search.

    A kill loses nothing that the listener was told: each line is with the operating system before the call
    returns. A line says its checksum, so that one that changed later is noticed.

    >>> import tempfile
    >>> from selftune.hyperparameters.distribution import Uniform
    >>> from selftune.search import Swept
    >>> folder = Path(tempfile.mkdtemp())
    >>> space = SearchSpace((Swept("objective.optimization.momentum", Uniform(0, 1)),))
    >>> settings = SearchSettings(metric="validation_loss", mode="min", report_every=50, trials=20)
    >>> writer = TrialsWriter(folder, space, settings)
    >>> writer.resumed({})
    >>> writer.heard(TrialRecord(0, {"objective.optimization.momentum": 0.9}))
    >>> writer.ended()
    >>> read_trials(folder).last[0].values
    {'objective.optimization.momentum': 0.9}
    """

    def __init__(self, folder: Path, space: SearchSpace, settings: SearchSettings) -> None:
        self.path = Path(folder) / TRIALS_FILE
        self._space, self._settings = space, settings
        self._descriptor: int | None = None

    def resumed(self, trials: Mapping[int, TrialRecord]) -> None:
        """Opens the file, without the lines that are void and a last one that a kill cut short.

        Raises:
            DamagedFile: if a line is not what was written, or a trial is gone that the search has behind it.
        """
        self.ended()
        there = _read(self.path) if trials and self.path.exists() else []
        kept: list[TrialRecord] = []
        for record in there:
            stood = trials.get(record.number)
            if stood is not None and (record.time < stood.time or record == stood):
                kept.append(record)
        last = {record.number: record for record in kept}
        if lacking := sorted(set(trials) - {record.number for record in there}):
            raise DamagedFile(
                f"{self.path}: lacks trial {lacking[0]}, which the search has behind it; put the file back, or"
                " run the search anew in another folder"
            )
        kept += [record for number, record in sorted(trials.items()) if last.get(number) != record]
        write_search(self.path.parent, self._space, self._settings)
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(map(_line, kept)))
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def heard(self, trial: TrialRecord) -> None:
        """Adds a line; ``resumed`` has to come before.

        Raises:
            OSError: if it cannot be written, for example because the disk is full; the file is then as it was.
        """
        assert self._descriptor is not None
        length = os.fstat(self._descriptor).st_size
        try:
            write_all(self._descriptor, _line(trial))
        except OSError as error:
            os.ftruncate(self._descriptor, length)  # no later line may follow a torn one
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error

    def ended(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_trials(folder: Path) -> Trials:
    """What is known of the trials of a search, ended or not; a last line that a kill cut short is left out.

    Raises:
        FileNotFoundError: if the folder holds no search that has started.
        DamagedFile: if a file is not what was written.
    """
    space, settings = read_search(folder)
    return Trials(space, settings, tuple(_read(Path(folder) / TRIALS_FILE)))


def _line(record: TrialRecord) -> bytes:
    text = json.dumps(asdict(record), default=_plain)
    return f'{text[:-1]}{_CHECKSUM}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):  # what samplers draw
        return value.item()
    raise TypeError(f"a trial holds {value!r}, which is no number, text, list or mapping")


def _read(path: Path) -> list[TrialRecord]:
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last end of a line is torn, or nothing
    return list(_records(lines, path))


def _records(lines: Iterable[bytes], path: Path) -> Iterable[TrialRecord]:
    for number, line in enumerate(lines, start=1):
        try:
            text, _, checksum = line.decode().rpartition(_CHECKSUM)
            text += "}"
            if checksum != f'{zlib.crc32(text.encode()):08x}"}}':
                raise ValueError("its checksum differs")
            yield TrialRecord(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise DamagedFile(
                f"{path}: line {number} is damaged, or was written by another version of selftune; put back a copy"
                " of the file"
            ) from error
