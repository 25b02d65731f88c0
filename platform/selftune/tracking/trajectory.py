"""The trajectory of a study: what its hyperparameters did, written as it goes, read as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from selftune.listener import Listener
from selftune.shapes import Bool, Float, Int, Tensor
from selftune.storage.files import DamagedFile
from selftune.tracking.journal import Journal, has_table, metrics, read_table, vector

if TYPE_CHECKING:
    from selftune.hyperparameters import Space
    from selftune.methods import HyperStep, Report

TRAJECTORY, TRAINERS = "trajectory", "trainers"
CERTIFICATE = "certificate/"  # prefix of the columns with what a method proves or measures about its steps
DIAGNOSTIC = "diagnostic/"  # prefix of the columns with what a study measures beside the losses


class TrajectoryWriter(Listener):
    """Writes ``trajectory.parquet`` (a row per hyper-step) and ``trainers.parquet`` (a row per report).

    The kind of a report that was outvoted is ``outvoted``, and its message says why.

    A kill loses nothing that the listener was told. After a resume the writer goes on with the same files. Rows
    from beyond the state that the study goes on from are dropped: it computes them again, or never.

    >>> import tempfile, torch
    >>> from selftune.hyperparameters import Hyperparameter, Space, Unit
    >>> from selftune.methods import HyperStep
    >>> folder = Path(tempfile.mkdtemp())
    >>> writer = TrajectoryWriter(folder)
    >>> writer.started(Space([Hyperparameter("dropout.rate", Unit(), 0.1, tuned=True)]), members=1)
    >>> one = torch.ones(1)
    >>> writer.hyper_step(HyperStep(0, 10, 0.5, 2.3, 2.1, 0.25 * one, 0.5 * one, -1.0 * one))
    >>> writer.ended()
    >>> read_trajectory(folder).values
    array([[0.25]])
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._journals: dict[str, Journal] = {}
        self._last_order: dict[int, int] = {}
        self._last_report: dict[int, Report] = {}
        self._orders: Mapping[int, int] = {}
        self._hyper_steps: int | None = None

    def resumed(self, orders: Mapping[int, int], hyper_steps: int) -> None:
        self._orders, self._hyper_steps = dict(orders), hyper_steps
        self._last_order = {member: number - 1 for member, number in orders.items()}

    def started(self, space: Space, members: int) -> None:
        """Opens the tables.

        Raises:
            ValueError: if the folder holds a study of other hyperparameters.
            DamagedFile: if rows are gone that the study has behind it.
        """
        if not self._journals:
            columns = {TRAJECTORY: _trajectory_columns(space.names), TRAINERS: _TRAINERS_COLUMNS}
            keeps = {TRAJECTORY: self._keeps_steps, TRAINERS: self._keeps_reports}
            for name, key in ((TRAJECTORY, ["hyper_step"]), (TRAINERS, ["trainer", "order"])):
                kept = None if self._hyper_steps is None else keeps[name]
                if kept is not None and not has_table(self.folder, name):
                    kept(pa.table({column: pa.array([], pa.int64()) for column in key}))
                self._journals[name] = Journal(self.folder, name, columns[name], key, kept)

    def _keeps_steps(self, table: pa.Table) -> Bool[np.ndarray, "rows"]:
        steps = table["hyper_step"].to_numpy()
        self._check(TRAJECTORY, set(range(self._hyper_steps or 0)) - set(steps.tolist()), "hyper-step")
        return np.asarray(steps < self._hyper_steps)

    def _keeps_reports(self, table: pa.Table) -> Bool[np.ndarray, "rows"]:
        trainers, orders = table["trainer"].to_numpy(), table["order"].to_numpy()
        kept = np.ones(len(orders), dtype=bool)  # of trainers that were lost before
        for member, number in self._orders.items():
            own = orders[trainers == member]
            self._check(TRAINERS, set(range(number)) - set(own.tolist()), f"reports of trainer {member}: order")
            kept &= (trainers != member) | (orders < number)
        return kept

    def _check(self, name: str, lacking: set[int], what: str) -> None:
        if lacking:
            raise DamagedFile(
                f"{self.folder / name}.parquet: lacks {what} {min(lacking)}, which the study has behind it; put"
                " the file back, or run the study anew in another folder"
            )

    def reported(self, member: int, report: Report) -> None:
        self._last_order[member], self._last_report[member] = report.number, report
        self._append_report(member, report.number, report.kind, dict(report.metrics), report.message)

    def lost(self, member: int, reason: str) -> None:
        # in the place of the order that the trainer will never report
        self._append_report(member, self._last_order.get(member, -1) + 1, "lost", {}, reason)

    def hyper_step(self, step: HyperStep) -> None:
        for member, fault in step.faults.items():  # in the place of the row that is there already
            order, report = self._last_order[member], self._last_report.get(member)
            values = self._written(member, order) if report is None else dict(report.metrics)
            self._append_report(member, order, "outvoted", values, fault.sentence(member, step.number))
        self._journals[TRAJECTORY].append(
            {
                "hyper_step": step.number,
                "training_step": step.training_step,
                "seconds": step.seconds,
                "training_loss": step.training_loss,
                "validation_loss": step.validation_loss,
                "value": step.hyperparameters.detach().cpu().double().numpy(),
                "scale": step.scale.detach().cpu().double().numpy(),
                "hypergradient": step.hypergradient.detach().cpu().double().numpy(),
                "certificate": {f"{CERTIFICATE}{name}": value for name, value in step.certificate.items()},
                "diagnostics": {f"{DIAGNOSTIC}{name}": value for name, value in step.diagnostics.items()},
            }
        )

    def _written(self, member: int, order: int) -> dict[str, Any]:
        """The numbers of a report that came before the study went on from where it was stopped."""
        table = read_table(self.folder, TRAINERS)
        rows = (table["trainer"].to_numpy() == member) & (table["order"].to_numpy() == order)
        known = table.filter(pa.array(rows)).drop_columns(["trainer", "order", "kind", "message"])
        return {name: value for row in known.to_pylist() for name, value in row.items() if value is not None}

    def ended(self) -> None:
        for journal in self._journals.values():
            journal.close()
        self._journals, self._hyper_steps = {}, None

    def _append_report(self, member: int, order: int, kind: str, values: dict[str, Any], message: str) -> None:
        step = values.pop("training_step", None)
        self._journals[TRAINERS].append(
            {
                "trainer": member,
                "order": order,
                "kind": kind,
                "training_step": None if step is None else int(step),
                "message": message,
                "metrics": values,
            }
        )


@dataclass(frozen=True)
class Trajectory:
    """A trajectory as arrays; ``hyperparameters`` index the columns in the order of ``names``.

    ``values`` are constrained, ``scales`` and ``hypergradients`` live in the unconstrained space; row by row
    they are what ``HyperStep`` says. ``certificate`` is empty where the method gives none, NaN where a step lacks
    an entry; so are ``diagnostics``. ``table`` is the same as an Arrow table, one column per entry.
    """

    names: tuple[str, ...]
    hyper_step: Int[np.ndarray, "steps"]
    training_step: Int[np.ndarray, "steps"]
    seconds: Float[np.ndarray, "steps"]
    training_loss: Float[np.ndarray, "steps"]
    validation_loss: Float[np.ndarray, "steps"]
    values: Float[np.ndarray, "steps hyperparameters"]
    scales: Float[np.ndarray, "steps hyperparameters"]
    hypergradients: Float[np.ndarray, "steps hyperparameters"]
    certificate: Mapping[str, Float[np.ndarray, "steps"]]
    diagnostics: Mapping[str, Float[np.ndarray, "steps"]]
    table: pa.Table

    def __len__(self) -> int:
        return len(self.hyper_step)

    @property
    def solves(self) -> bool:
        """Whether the method solves a lower level to an accuracy it asks for, instead of training a network."""
        return "error_asked" in self.certificate

    def hyper_steps(self, dtype: torch.dtype) -> list[HyperStep]:
        """The rows as hyper-steps, with tensors of the type that they had."""
        from selftune.methods import HyperStep

        def entries(columns: Mapping[str, Float[np.ndarray, "steps"]], row: int) -> dict[str, float]:
            return {name: float(column[row]) for name, column in columns.items()}

        def vector(table: Float[np.ndarray, "steps hyperparameters"], row: int) -> Tensor:
            return torch.as_tensor(table[row]).to(dtype)

        return [
            HyperStep(
                number=int(self.hyper_step[row]),
                training_step=int(self.training_step[row]),
                seconds=float(self.seconds[row]),
                training_loss=float(self.training_loss[row]),
                validation_loss=float(self.validation_loss[row]),
                hyperparameters=vector(self.values, row),
                scale=vector(self.scales, row),
                hypergradient=vector(self.hypergradients, row),
                certificate=entries(self.certificate, row),
                diagnostics=entries(self.diagnostics, row),
            )
            for row in range(len(self))
        ]


def read_trajectory(folder: Path) -> Trajectory:
    """The trajectory of a study's folder, finished, running or killed.

    Raises:
        FileNotFoundError: if the folder holds no study that has started.
    """
    return trajectory_of(_read(folder, TRAJECTORY))


def trajectory_of(table: pa.Table) -> Trajectory:
    """Rows of the table of a trajectory as arrays."""
    names = tuple(name.removeprefix("value/") for name in table.column_names if name.startswith("value/"))

    def matrix(prefix: str) -> np.ndarray[Any, Any]:
        columns = [table[f"{prefix}/{name}"].to_numpy() for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0))

    def named(prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        columns = [name for name in table.column_names if name.startswith(prefix)]
        return {name.removeprefix(prefix): table[name].to_numpy() for name in columns}

    return Trajectory(
        names=names,
        hyper_step=table["hyper_step"].to_numpy(),
        training_step=table["training_step"].to_numpy(),
        seconds=table["seconds"].to_numpy(),
        training_loss=table["training_loss"].to_numpy(),
        validation_loss=table["validation_loss"].to_numpy(),
        values=matrix("value"),
        scales=matrix("scale"),
        hypergradients=matrix("hypergradient"),
        certificate=named(CERTIFICATE),
        diagnostics=named(DIAGNOSTIC),
        table=table,
    )


def read_reports(folder: Path) -> pa.Table:
    """The reports of a study's trainers, sorted by trainer and order; metrics not reported are null.

    Columns: trainer, order, kind, training_step, message, and one per metric.

    Raises:
        FileNotFoundError: if the folder holds no study that has started.
    """
    return _read(folder, TRAINERS)


def _read(folder: Path, name: str) -> pa.Table:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: is not a folder; give the output folder of a study")
    return read_table(folder, name)


def _trajectory_columns(names: tuple[str, ...]) -> list[pa.Field]:
    return [
        pa.field("hyper_step", pa.int64()),
        pa.field("training_step", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("training_loss", pa.float64()),
        pa.field("validation_loss", pa.float64()),
        vector("value", names),
        vector("scale", names),
        vector("hypergradient", names),
        metrics("certificate"),
        metrics("diagnostics"),
    ]


_TRAINERS_COLUMNS = [
    pa.field("trainer", pa.int64()),
    pa.field("order", pa.int64()),
    pa.field("kind", pa.string()),
    pa.field("training_step", pa.int64()),
    pa.field("message", pa.string()),
    metrics("metrics"),
]
