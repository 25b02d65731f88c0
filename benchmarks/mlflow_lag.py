"""How far MLflow is behind a study that it follows, however much was recorded before.

    python benchmarks/mlflow_lag.py [--rates 1,10] [--before 0,2000] [--seconds 20]

Rows of hyper-steps, with as many reports of one trainer, are written to the tables of a study at a rate, after so
many rows that were there before. The process that ``selftune run`` starts beside a study sends them to a database
of MLflow on this machine. The lag of a row is the time from when it was written until it is in the database.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import torch
from rich.console import Console

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Place
from selftune.methods import HyperStep
from selftune.methods.reports import Trained
from selftune.studies.mlflow_process import MlflowProcess
from selftune.tracking.summary import write_summary
from selftune.tracking.trajectory import TrajectoryWriter

HYPERPARAMETERS = 10
GETS_READY = 60.0  # seconds within which the first rows have to arrive


class Study:
    """The tables of a study whose hyper-steps take no time."""

    def __init__(self, folder: Path) -> None:
        self.space = Space(
            [Hyperparameter(f"h.x{i}", Interval(), 0.5, tuned=True) for i in range(HYPERPARAMETERS)]
        )
        self.writer, self.count = TrajectoryWriter(folder), 0
        self.writer.arrived(0, Place.here())
        self.writer.started(self.space, 1)

    def write(self) -> None:
        """A hyper-step and the report that it was made of."""
        vector, number = torch.rand(HYPERPARAMETERS), self.count
        report = Trained(number=number, training_step=number, training_loss=1.0, measures={"validation_loss": 0.5})
        self.writer.reported(0, report)
        self.writer.hyper_step(HyperStep(number, number, float(number), 1.0, 0.5, vector, vector, vector))
        self.count += 1


def arrived(database: Path) -> int:
    """The last hyper-step that is in the database; -1 before the first."""
    query = "select max(step) from metrics where key = 'validation_loss'"
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as there,
    ):
        last = there.execute(query).fetchone()[0]
        return -1 if last is None else int(last)
    return -1


def lags(place: Path, before: int, rate: float, seconds: float) -> list[float]:
    """Of every row that was written within ``seconds``, once all that were there before have arrived."""
    database, folder = place / "mlflow.db", place / "study"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    study = Study(folder)
    (folder / "study.yaml").write_text("study: lag\n")
    for _ in range(before + 1):
        study.write()
    process = MlflowProcess(folder)
    limit = time.monotonic() + GETS_READY + before / 10
    while arrived(database) < before:
        if time.monotonic() > limit:
            raise SystemExit(f"only {arrived(database) + 1} of {before + 1} rows arrived")
        time.sleep(0.2)
    written: dict[int, float] = {}
    found: list[float] = []
    began, last = time.monotonic(), before
    while len(found) < rate * seconds:
        now = time.monotonic()
        while len(written) < min(rate * (now - began), rate * seconds):
            written[study.count] = now
            study.write()
        there = arrived(database)
        now = time.monotonic()
        found += [now - written[number] for number in range(last + 1, there + 1)]
        last = max(last, there)
        time.sleep(0.05)
    study.writer.ended()
    write_summary(folder, {"status": "finished"})
    process.finish(Console(), patient=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1,10", help="hyper-steps per second")
    parser.add_argument("--before", default="0,2000", help="hyper-steps that were there before")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args(arguments)
    print("| hyper-steps before | per second | lag in seconds, median | largest |")
    print("| --- | --- | --- | --- |")
    for before in map(int, options.before.split(",")):
        for rate in map(float, options.rates.split(",")):
            with tempfile.TemporaryDirectory() as place:
                found = lags(Path(place), before, rate, options.seconds)
            print(f"| {before:,} | {rate:g} | {statistics.median(found):.1f} | {max(found):.1f} |", flush=True)


if __name__ == "__main__":
    main()
