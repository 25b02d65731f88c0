"""What it costs to be ready for faults, in a study in which none happens.

    python benchmarks/fault_overhead.py [--study search_spaces/digits.yaml]

The study runs on Ray as `selftune run` runs it. Of the driver the time is taken that goes into what is there for
faults and for those who watch: the record to go on from, orders kept for trainers that start again, status, log,
metrics, tables, and the look for trainers that hang. Of a trainer it is the time of a checkpoint, measured on one
of this study's, as often as one is saved. Both are shares of the time that the tuning takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from selftune.cli import main as selftune
from selftune.listener import Listener
from selftune.schedulers import hangs, metrics, run_record, scheduler, team
from selftune.storage.state_file import save_state
from selftune.studies import run_log, status_writer
from selftune.studies.study_file import load_study
from selftune.tracking import trajectory
from selftune.training import run_in_process

LISTENS = [name for name in vars(Listener) if not name.startswith("_")]
WATCHED: dict[str, list[tuple[type[Any], Sequence[str]]]] = {
    "record": [(run_record.RunRecord, ("on_step_end", "on_trial_save", "on_experiment_end"))],
    "orders kept": [(team.Team, ("saved",))],
    "tables": [(trajectory.TrajectoryWriter, LISTENS)],
    "status": [(status_writer.StatusWriter, LISTENS)],
    "log": [(run_log.RunLog, LISTENS)],
    "metrics": [(metrics.StudyMetrics, LISTENS)],
    "trainers that hang": [
        (hangs.Hangs, ("is_due", "look", "done")),
        (scheduler.BilevelScheduler, ("_end_hanging",)),
    ],
}
CHECKPOINTS = 9  # that are saved to find out how long one takes


class Watch:
    """Adds up the seconds of what is watched, from the first hyper-step to the last."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.saves = 0
        self.first, self.last = 0.0, 0.0
        self._at_last: tuple[dict[str, float], int] = {}, 0
        for what, places in WATCHED.items():
            inside = [False]
            for owner, names in places:
                for name in names:
                    if name in vars(owner):
                        setattr(owner, name, self._timed(vars(owner)[name], what, inside))

    def _timed(self, function: Callable[..., Any], what: str, inside: list[bool]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if inside[0]:  # within a call that is timed
                return function(*arguments, **named)
            inside[0], began = True, time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                inside[0], now = False, time.perf_counter()
                self.spent[what] += now - began
                self.saves += function.__name__ == "on_trial_save"
                if function.__qualname__ == "TrajectoryWriter.hyper_step":
                    self._hyper_step(now)

        return timed

    def _hyper_step(self, now: float) -> None:
        if not self.first:
            self.first, self.saves = now, 0
            self.spent.clear()
        self.last, self._at_last = now, (dict(self.spent), self.saves)

    @property
    def results(self) -> tuple[float, dict[str, float], int]:
        """Seconds in all and of each part, and how many checkpoints of trainers there were."""
        return self.last - self.first, *self._at_last


def checkpoint_seconds(path: Path) -> float:
    """Seconds of a checkpoint of one of the study's trainers, made and written, a little after its warm-up."""
    study = load_study(path)
    study = load_study(path, steps=study.method.warmup_steps + 50)
    factory = study.strategy.trainers()
    trainers = {member: factory(member) for member in range(study.trainers.number)}
    run_in_process(study.strategy.method(), trainers, Listener())
    trainer = trainers[0]
    with tempfile.TemporaryDirectory() as place:
        times = []
        for _ in range(CHECKPOINTS):
            began = time.perf_counter()
            save_state(Path(place) / "state.safetensors", trainer.state_dict(), "checkpoint")
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="search_spaces/digits.yaml")
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_worker_niceness", "0")
    path = Path(options.study)
    study, watch = load_study(path), Watch()
    with tempfile.TemporaryDirectory() as place:
        selftune(["run", options.study, "--no-mlflow", "--output", f"{place}/out"])
    seconds, spent, saves = watch.results
    each = checkpoint_seconds(path)
    spent["checkpoints of a trainer"] = each * saves / study.trainers.number
    print(f"\n| of {seconds:.1f} s of tuning | seconds | share |")
    print("| --- | --- | --- |")
    for what, one in spent.items():
        print(f"| {what} | {one:.3f} | {one / seconds:.2%} |")
    print(f"| in all | {sum(spent.values()):.3f} | {sum(spent.values()) / seconds:.2%} |")
    print(f"\n{saves} checkpoints, {1e3 * each:.1f} ms each")


if __name__ == "__main__":
    main()
