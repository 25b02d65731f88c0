"""mlflow.json: what of a study has been sent, and where to, so that nothing is sent twice."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selftune.storage.address import is_whole, without_password
from selftune.storage.checked_json import read_json, write_json

NAME = "mlflow.json"


class PasswordMissing(ValueError):
    """The address where a study is tracked is known only without what is secret in it."""


@dataclass
class Run:
    """One run of the tracking server; ``sent`` is the number of the last row that arrived."""

    run_id: str
    sent: int = -1
    status: str = "RUNNING"
    tags: dict[str, str] = field(default_factory=dict)  # that may change


@dataclass
class Destination:
    """What one tracking server has got; ``study`` names the study there while its runs are being created."""

    study: str
    started: int  # milliseconds since 1970; the points' times count from here
    experiment: str = ""
    experiment_id: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)  # which groups of them
    trials: dict[str, str] = field(default_factory=dict)  # run of a trial: digest of the values it was drawn with
    files: dict[str, str] = field(default_factory=dict)  # name: digest of the content that was sent
    results: str = ""  # digest
    network: str = ""  # digest


class Record:
    """The file ``mlflow.json`` of a study's folder; ``save`` after every change.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> record = Record(folder)
    >>> record.destination("http://localhost:5000", started=0).experiment = "selftune"
    >>> record.save()
    >>> Record(folder).latest
    'http://localhost:5000'
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / NAME
        self.latest = ""
        self.destinations: dict[str, Destination] = {}
        if self.path.is_file():
            self._load(read_json(self.path))

    def destination(self, uri: str, started: int) -> Destination:
        """What is known of a tracking server, which becomes the latest one."""
        self.latest = without_password(uri)
        new = Destination(study=uuid.uuid4().hex, started=started)
        return self.destinations.setdefault(self.latest, new)

    def forget(self, uri: str) -> None:
        """Everything has to be sent again: the server does not know its runs any more."""
        self.destinations.pop(without_password(uri), None)

    def save(self) -> None:
        content = {
            "latest": self.latest,
            "destinations": {uri: asdict(one) for uri, one in self.destinations.items()},
        }
        write_json(self.path, content)

    def _load(self, content: dict[str, Any]) -> None:
        self.latest = without_password(content["latest"])
        for uri, fields in content["destinations"].items():
            runs = {name: Run(**run) for name, run in fields.pop("runs").items()}
            self.destinations[without_password(uri)] = Destination(**fields, runs=runs)


def tracking_uri(folder: Path) -> str:
    """Where a study is tracked: ``MLFLOW_TRACKING_URI``, else where it was sent last, else ``./mlflow.db``.

    A database file that is gone does not count.

    Raises:
        PasswordMissing: if the address where it was sent last had a password, which is not written down.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    latest = Record(folder).latest
    if not is_whole(latest):
        raise PasswordMissing(
            f"{folder}: was sent to {latest}, whose password is not kept; set MLFLOW_TRACKING_URI to all of it"
        )
    lost = latest.startswith("sqlite:///") and not Path(latest.removeprefix("sqlite:///")).exists()
    if latest and not lost:
        return latest
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"
