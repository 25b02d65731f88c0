"""What the driver of a sweep costs: many short trials, reports per second, and the driver's memory.

    python benchmarks/driver_cost.py [--trials 1000] [--reports 5] [--searcher random]

Trials train nothing, so what is measured is Ray Tune, the searcher, the checks, records and checkpoints. Memory is
the driver's resident set after each quarter of the trials; it should not grow by more than the trials' records.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from selftune.hyperparameters.distribution import LogUniform, Uniform
from selftune.schedulers.sweep import run_trials_on_ray
from selftune.search import SearchSettings, SearchSpace, Swept, TrialRecord, TrialsListener
from selftune.search.searchers import SEARCHERS

SPACE = SearchSpace((Swept("x", Uniform(0, 1)), Swept("y", LogUniform(1e-4, 1.0))))


class ShortTrial(tune.Trainable):
    """Reports the squared distance from a point, a few times."""

    def setup(self, config: dict[str, Any], reports: int = 5) -> None:  # type: ignore[override]
        self.values, self.reports, self.done_reports = config["values"], reports, 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.values, self.done_reports = new_config["values"], 0
        return True

    def step(self) -> dict[str, Any]:
        self.done_reports += 1
        loss = (self.values["x"] - 0.3) ** 2 + 1 / self.done_reports
        done = self.done_reports >= self.reports
        return {"training_step": self.done_reports, "validation_loss": loss, "done": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "reports").write_text(str(self.done_reports))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.done_reports = int(Path(checkpoint, "reports").read_text())


class Meter(TrialsListener):
    """Notes the driver's memory and the time as trials end."""

    def __init__(self, trials: int, say: Callable[[str], None]) -> None:
        self.marks = {max(1, round(trials * quarter / 4)) for quarter in (1, 2, 3, 4)}
        self.say = say
        self.ended_trials = self.reports = 0
        self.memory: dict[int, float] = {}
        self.start, self.processor = time.perf_counter(), time.process_time()

    def heard(self, trial: TrialRecord) -> None:
        if trial.has_ended:
            self.ended_trials += 1
            if self.ended_trials in self.marks:
                self.memory[self.ended_trials] = resident()
                seconds = time.perf_counter() - self.start
                self.say(
                    f"{self.ended_trials:5d} trials  {self.memory[self.ended_trials]:7.1f} MB"
                    f"  {self.reports / seconds:6.1f} reports/s  {self.ended_trials / seconds:5.1f} trials/s"
                    f"  {1e3 * (time.process_time() - self.processor) / self.reports:5.1f} ms CPU per report"
                )
        elif trial.training_step:
            self.reports += 1


def resident() -> float:
    """This process's resident set in MB (10^6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(
    folder: Path,
    trials: int,
    reports: int,
    searcher: str = "random",
    say: Callable[[str], None] = print,
    address: str | None = None,
) -> Meter:
    """Runs the trials, two at a time, and says after each quarter what they cost."""
    meter = Meter(trials, say)
    run_trials_on_ray(
        tune.with_parameters(ShortTrial, reports=reports),
        check=lambda values: None,
        space=SPACE,
        settings=SearchSettings(
            metric="validation_loss",
            mode="min",
            report_every=1,
            trials=trials,
            concurrent=2,
            searcher=SEARCHERS[searcher](),
        ),
        members=1,
        cpus=1,
        gpus=0,
        trial_steps=reports,
        folder=folder,
        listener=meter,
        address=address,
    )
    return meter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=5, help="of each trial")
    parser.add_argument("--searcher", default="random", choices=SEARCHERS)
    options = parser.parse_args()
    print(f"      0 trials  {resident():7.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.trials, options.reports, options.searcher)


if __name__ == "__main__":
    main()
