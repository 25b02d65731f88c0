"""A study on an MLflow server: the trajectory in a parent run, the reports of a trainer in a run of its own."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
from torch import nn

from selftune.tracking.journal import JournalFollower, read_table, write_parquet
from selftune.tracking.points import MAXIMUM_NAMES, Elapsed, trainer_rows, trajectory_rows
from selftune.tracking.record import Run
from selftune.tracking.sender import Sender
from selftune.tracking.summary import Summary
from selftune.tracking.trajectory import TRAINERS, TRAJECTORY, Trajectory, trajectory_of


class StudySender(Sender):
    """Sends the folder of a study or of a call of ``tune``."""

    FILES = (
        "study.yaml",
        "summary.json",
        "report.html",
        "conversion.txt",
        "parameters.pt",
        "pictures.npz",
        "best_network.safetensors",
    )

    def __init__(self, folder: Path, uri: str, network: Callable[[Path], nn.Module] | None = None) -> None:
        super().__init__(folder, uri, network)
        self._failed: set[str] = set()
        self._read_again()

    def _fingerprint(self) -> object:
        names = [f"{name}.{kind}" for name in (TRAJECTORY, TRAINERS) for kind in ("arrows", "parquet")]
        stats = [(self.folder / name).stat() for name in names if (self.folder / name).exists()]
        return [(stat.st_size, stat.st_mtime_ns) for stat in stats]

    def _send_rows(self, parent: Run) -> None:
        try:
            self._send_new_rows(parent)
        except BaseException:  # whatever it is, what was read was not sent
            self._read_again()
            raise

    def _read_again(self) -> None:
        self._trajectory = JournalFollower(self.folder, TRAJECTORY)
        self._reports = JournalFollower(self.folder, TRAINERS)
        self._elapsed = defaultdict[int, Elapsed](Elapsed)

    def _send_new_rows(self, parent: Run) -> None:
        try:
            trajectory = trajectory_of(self._trajectory.rows())
            reports = self._reports.rows()
        except FileNotFoundError:  # followed from its first moment, the study has not started yet
            return
        if self._reports.is_whole:
            self._elapsed.clear()
        if len(trajectory) and "start" not in self.there.parameters:
            self._send_parameters(parent, "start", _start_values(trajectory))
        self._send_points(parent, partial(trajectory_rows, trajectory))
        for trainer in sorted(set(reports["trainer"].to_pylist())):
            name = f"trainer {trainer}"
            own = reports.filter(pc.equal(reports["trainer"], trainer))
            self._send_points(self._run(name), partial(trainer_rows, own, self._elapsed[trainer]))
            if own["kind"][-1].as_py() in ("diverged", "lost"):
                self._failed.add(name)

    def _results(self, summary: Summary) -> tuple[dict[str, float], tuple[float, int]]:
        at = summary.get("seconds", 0.0), summary.get("training_steps", summary.get("work", 0))
        results = {"tuned": summary.get("tuned", {}), "fixed": summary.get("fixed", {})}
        best = summary.get("best")
        if best is not None:
            results["best"] = {"hyper_step": best["hyper_step"], **best["measures"]}
        for kind, measures in summary.get("horizon", {}).get("results", {}).items():
            results[f"horizon/{kind.replace(' ', '_')}"] = measures
        return {f"{which}/{name}": value for which, one in results.items() for name, value in one.items()}, at

    def _status_of(self, name: str, status: str) -> str:
        return "FAILED" if name in self._failed else status

    def _send_files(self, parent: Run) -> None:
        super()._send_files(parent)
        for name in (TRAJECTORY, TRAINERS):
            self._send_table(parent, name)

    def _send_table(self, parent: Run, name: str) -> None:
        path = self.folder / f"{name}.parquet"
        if not (self.folder / f"{name}.arrows").exists():
            if path.exists():
                self._send_file(parent, path, Path(path.name))
            return
        # The study runs or was killed: its Parquet file is behind.
        with tempfile.TemporaryDirectory() as temporary:
            merged = Path(temporary) / path.name
            write_parquet(read_table(self.folder, name), merged)
            self._send_file(parent, merged, Path(path.name))


def _start_values(trajectory: Trajectory) -> dict[str, str]:
    if len(trajectory.names) > MAXIMUM_NAMES:
        return {}
    values = zip(trajectory.names, trajectory.values[0], strict=True)
    return {f"start/{name}": f"{value:.6g}" for name, value in values}
