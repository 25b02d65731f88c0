"""summary.json: how a study ended, in numbers. While it is missing or says "running", the study goes on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict, cast

from selftune.storage.checked_json import read_json, write_json

STATUSES = ("running", "finished", "failed", "stopped", "interrupted")


class HyperparameterSummary(TypedDict):
    """One tuned hyperparameter, named as in ``Space.names``, with its constrained values."""

    name: str
    start: float
    end: float


class MetricSummary(TypedDict):
    """The study's metric: its best value, at which hyper-step, and its last; ``mode`` is min or max."""

    name: str
    mode: str
    best: float
    hyper_step: int
    last: float


class BestSummary(TypedDict, total=False):
    """The network where the metric was best: its value there, when that was, and what was measured at the end.

    ``measures`` are those of whole splits, ``hyperparameters`` the constrained values that it was trained with.
    They are means over ``networks``, whose standard deviations are ``spread``, where a team has several.
    """

    metric: str
    value: float
    hyper_step: int
    training_step: int
    hyperparameters: dict[str, float]
    measures: dict[str, float]
    networks: int
    spread: dict[str, float]


class WinnerSummary(TypedDict):
    """The trial of a sweep with the best value of the metric: where, and by key of the study file with what."""

    number: int
    values: dict[str, Any]
    training_step: int
    value: float


class HorizonSummary(TypedDict, total=False):
    """Networks trained again, with the schedule and with its last values held from the start; empty without.

    ``results`` are means of measures by kind, over ``networks``, ``spread`` their standard deviations. Whether the
    last values do surely better (``held_is_better``) is told by the ``metric``; ``sentence`` says so.
    """

    metric: str
    training_steps: int
    networks: dict[str, int]
    results: dict[str, dict[str, float]]
    spread: dict[str, dict[str, float]]
    held_is_better: bool
    sentence: str


class Summary(TypedDict, total=False):
    """All optional; ``tuned`` is the study's network, ``fixed`` the same one with the start values held.

    Their metrics are validation_loss, test_loss, validation_accuracy, test_accuracy, as far as they exist. They
    are means over ``networks`` (by ``tuned`` and ``fixed``), whose standard deviations are ``spread`` where there
    are several. ``remark`` is what the method says of its result, ``warnings`` are sentences on trainers that were
    lost or outvoted, on networks that are worse than a constant answer, and on a schedule that is worse than its
    last values (see ``horizon``). ``steps``, ``work`` and ``stopped``
    (accepted steps of the upper level; lower-level gradients and products; why the method ended) stand in for
    ``training_steps`` in studies of smooth objectives, which train no network. ``held`` says that the method moves
    nothing: ``tuned`` are then the measures with the start values held, and ``fixed`` is empty. Sweeps, whose
    ``kind`` is ``sweep``, have a ``winner`` instead of tuned values, the ``measures`` of its best network, the
    number of ``trials`` by status, and the training steps that all networks together have ``spent``.
    """

    kind: str
    winner: WinnerSummary
    measures: dict[str, float]
    trials: dict[str, int]
    spent: int

    status: str
    message: str
    name: str
    training_steps: int
    steps: int
    work: int
    stopped: str
    remark: str
    warnings: list[str]
    seconds: float
    hyperparameters: list[HyperparameterSummary]
    metric: MetricSummary
    best: BestSummary
    horizon: HorizonSummary
    held: bool
    tuned: dict[str, float]
    fixed: dict[str, float]
    networks: dict[str, int]
    spread: dict[str, dict[str, float]]
    versions: dict[str, str]


def write_summary(folder: Path, summary: Summary) -> Path:
    """Replaces ``summary.json``, adding the versions in use where they are not given.

    A status other than "running" tells whoever follows the folder that everything else in it (report,
    network) is complete, so this is the last file to write.

    Raises:
        ValueError: if the status is missing or unknown.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_summary(folder, {"status": "finished", "training_steps": 100})
    >>> read_summary(folder)["training_steps"]
    100
    """
    if summary.get("status") not in STATUSES:
        raise ValueError(f"a summary's status is one of {', '.join(STATUSES)}, got {summary.get('status')!r}")
    path = Path(folder) / "summary.json"
    write_json(path, {"versions": versions(), **summary})
    return path


def read_summary(folder: Path) -> Summary:
    """The summary of a study's folder; empty if there is none yet.

    Raises:
        DamagedFile: if it is not what was written.
    """
    try:
        return cast(Summary, read_json(Path(folder) / "summary.json"))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def has_ended(summary: Summary) -> bool:
    return summary.get("status", "running") != "running"


def versions() -> dict[str, str]:
    """Versions of the installed packages that a study's results depend on."""
    found = {}
    for name in ("selftune", "torch", "numpy", "ray"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # selftune itself runs from a source tree, Ray is optional there
            continue
    return found
