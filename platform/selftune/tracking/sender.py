"""What a folder holds on one MLflow server: a parent run, runs below it, parameters, metrics, files, network."""

from __future__ import annotations

import hashlib
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import yaml
from torch import nn

from selftune.tracking.points import Row, flattened, keys_of
from selftune.tracking.record import Record, Run
from selftune.tracking.requirements import requirements_of
from selftune.tracking.server import Server
from selftune.tracking.summary import Summary, read_summary

STUDY = "study"  # the parent run in the record; the others are "trainer 0" or "trial 0", ...
POINTS_PER_BATCH, PARAMETERS_PER_BATCH, PARAMETER_LENGTH = 1000, 100, 6000  # MLflow takes no more
STATUS = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "stopped": "KILLED",
    "interrupted": "KILLED",
}


class Sender(ABC):
    """Sends what a folder holds and its record (``mlflow.json``) does not list yet.

    Args:
        folder: the output folder of a study or a sweep.
        uri: the tracking server's address.
        network: builds the trained network of a folder; without it none is sent.
    """

    FILES: ClassVar[tuple[str, ...]]
    """That become artifacts of the parent run, as far as they exist; so do the plots."""

    def __init__(self, folder: Path, uri: str, network: Callable[[Path], nn.Module] | None = None) -> None:
        self._network = network
        self.folder, self.server = folder, Server(uri)
        study = folder / "study.yaml"
        started = study.stat().st_mtime if study.exists() else time.time()
        self.started = int(started * 1000)
        self.record = Record(folder)
        self.there = self.record.destination(uri, self.started)
        self.record.save()  # even if the server is away, so that a later sync knows where to send
        self._checked = False
        self._sent_files: object = None
        self.sent = False  # whether the server got anything

    def send(self, complete: bool, abandoned: bool = False) -> None:
        """One round: rows always; files, results and network when the folder is ``complete``.

        ``abandoned`` says that the study was killed, so that its run does not look as if it went on.

        Raises:
            Unreachable: if the server is away.
            Refused: if something could not be sent for another reason.
        """
        with self.server.sentences():
            self._check_server()
            parent = self._run(STUDY)
            self._send_settings(parent)
            if (files := self._fingerprint()) != self._sent_files:
                self._send_rows(parent)
                self._sent_files = files
            summary = read_summary(self.folder)
            if complete:
                self._send_files(parent)
                self._send_results(parent, summary)
            self._send_status(summary, abandoned)
            if complete:
                self._send_network(parent)

    @abstractmethod
    def _fingerprint(self) -> object:
        """Something that is another whenever there may be new rows."""

    @abstractmethod
    def _send_rows(self, parent: Run) -> None:
        """Sends what was recorded since the last time, to the parent run and those below it."""

    @abstractmethod
    def _results(self, summary: Summary) -> tuple[dict[str, float], tuple[float, int]]:
        """What came out, by name, and at how many seconds and steps."""

    def _status_of(self, name: str, status: str) -> str:
        """The status of a run, given that of the parent run."""
        return status

    def _ended(self, name: str) -> float:
        """When a run ended, in seconds since 1970."""
        path = self.folder / "summary.json"
        return path.stat().st_mtime if path.exists() else time.time()

    def _check_server(self) -> None:
        known = self.there.runs.get(STUDY)
        if not self._checked and known and not self.server.knows(known.run_id):
            self.server.experiment_id(_experiment())  # a deleted one is refused before anything is forgotten
            self.record.forget(self.server.uri)
            self.there = self.record.destination(self.server.uri, self.started)
        self._checked = True

    def _run(self, name: str, seconds: float = 0.0) -> Run:
        """The run of that name, made if there is none, so many seconds after the first one."""
        there = self.there
        if name in there.runs:
            return there.runs[name]
        if not there.experiment_id:
            there.experiment = _experiment()
            there.experiment_id = self.server.experiment_id(there.experiment)
        tags = {"selftune.study": there.study, "selftune.run": name}
        if name != STUDY:
            tags["mlflow.parentRunId"] = there.runs[STUDY].run_id
        started = there.started + int(1000 * seconds)
        shown = name if name != STUDY else self.folder.resolve().name
        there.runs[name] = Run(self.server.run_id(there.experiment_id, shown, started, tags))
        self._recorded()
        return there.runs[name]

    def _send_settings(self, parent: Run) -> None:
        study = self.folder / "study.yaml"
        if "settings" not in self.there.parameters and study.exists():
            settings = flattened(yaml.safe_load(study.read_text(encoding="utf-8")))
            self._send_parameters(parent, "settings", settings)

    def _send_parameters(self, run: Run, name: str, values: dict[str, str]) -> None:
        """Sends a group of parameters, which gets a name to be known by."""
        from mlflow.entities import Param

        keyed = zip(keys_of(list(values)), values.values(), strict=True)
        parameters = [Param(key, value[:PARAMETER_LENGTH]) for key, value in keyed]
        for at in range(0, len(parameters), PARAMETERS_PER_BATCH):
            batch = parameters[at : at + PARAMETERS_PER_BATCH]
            self.server.client.log_batch(run.run_id, params=batch)
        self.there.parameters.append(name)
        self._recorded()

    def _send_points(self, run: Run, rows_after: Callable[[int], Iterator[Row]]) -> None:
        for rows in _batches(rows_after(run.sent)):
            self._send_metrics(run, rows)
            run.sent = rows[-1].number
            self._recorded()

    def _send_metrics(self, run: Run, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        # The times depend on the study alone: what arrives twice, because a kill came between sending and
        # recording, is one and the same point to the server.
        started = self.there.started
        points = [point for row in rows for point in row.points]
        metrics = [Metric(p.key, p.value, started + int(p.seconds * 1000), p.step) for p in points]
        if metrics:
            self.server.client.log_batch(run.run_id, metrics=metrics)

    def _send_results(self, parent: Run, summary: Summary) -> None:
        flat, at = self._results(summary)
        digest = hashlib.sha256(json.dumps([flat, at]).encode()).hexdigest()
        if flat and digest != self.there.results:
            self._send_metrics(parent, [Row.of(0, flat, *at)])
            self.there.results = digest
            self._recorded()

    def _send_files(self, parent: Run) -> None:
        plots = sorted((self.folder / "plots").glob("*.svg"))
        for path in [self.folder / name for name in self.FILES] + plots:
            if path.exists():
                self._send_file(parent, path, path.relative_to(self.folder))

    def _send_file(self, parent: Run, path: Path, name: Path) -> None:
        digest = _digest(path)
        if self.there.files.get(str(name)) != digest:
            into = None if name.parent == Path() else str(name.parent)
            self.server.client.log_artifact(parent.run_id, str(path), into)
            self.there.files[str(name)] = digest
            self._recorded()

    def _send_status(self, summary: Summary, abandoned: bool) -> None:
        status = STATUS[summary.get("status", "running")]
        if abandoned and status == "RUNNING":
            status = "KILLED"
        for name, run in self.there.runs.items():
            wanted = self._status_of(name, status)
            if run.status == wanted:
                continue
            if wanted == "RUNNING":  # resumed
                self.server.client.update_run(run.run_id, wanted)
            else:
                self.server.client.set_terminated(run.run_id, wanted, int(self._ended(name) * 1000))
            run.status = wanted
            self._recorded()

    def _send_network(self, parent: Run) -> None:
        path = self.folder / "network.safetensors"
        if self._network is None or not path.exists() or (digest := _digest(path)) == self.there.network:
            return
        network = self._network(self.folder)
        self.server.log_network(self.there.experiment_id, parent.run_id, network, requirements_of(network))
        self.there.network = digest
        self._recorded()

    def _recorded(self) -> None:
        """The server got something."""
        self.sent = True
        self.record.save()


def _experiment() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "selftune"


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        if batch and sum(len(one.points) for one in batch) + len(row.points) > POINTS_PER_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
