"""Does tuning online help? The digits study against the same network with its start values, and replays.

For every seed, with equal training steps: the tuned network; the start values held fixed; both also as they were
where the validation loss of a hyper-step was lowest; the values at the end of tuning held fixed from the
beginning, on a fresh seed, and the whole schedule replayed on that seed.

    python benchmarks/digits.py --seeds 5
"""

from __future__ import annotations

import argparse
import statistics

from selftune.listener import Listener
from selftune.methods import Held, HeldSettings, Replay, Segment
from selftune.studies.packaged import find_study
from selftune.studies.study_file import load_study
from selftune.training import run_in_process

MEASURES = ("validation_loss", "test_loss", "test_accuracy")


class Schedule(Listener):
    def __init__(self):
        self.segments = []

    def hyper_step(self, step):
        self.segments.append(Segment(step.training_step, step.hyperparameters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--study", default="digits", help="a packaged study or a file")
    arguments = parser.parse_args()
    study = load_study(find_study(arguments.study))
    steps = study.budget.steps
    rows: dict[str, list[dict[str, float]]] = {}
    still = HeldSettings(train_steps=study.method.train_steps)  # measured as often as what is tuned

    def record(name, method, seed, listener=None):
        reports = run_in_process(method, {0: study.strategy.trainers(seed)(0)}, listener)
        metrics = reports[0].metrics
        rows.setdefault(name, []).append(metrics)
        if "best_test_loss" in metrics:
            best = {measure: metrics[f"best_{measure}"] for measure in MEASURES}
            rows.setdefault(f"{name}, best network", []).append(best)

    for seed in range(arguments.seeds):
        method, schedule = study.strategy.method(), Schedule()
        record("tuned online", method, seed, schedule)
        record("start values held", Held(study.budget, still), seed)
        start = Segment(steps, study.space.constrain(study.space.start))
        fresh = seed + 1000
        record("schedule replayed, fresh seed", Replay(schedule.segments, steps), fresh)
        record("end values held, fresh seed", Replay([Segment(steps, schedule.segments[-1].values)], steps), fresh)
        record("start values held, fresh seed", Replay([start], steps), fresh)

    print(f"| {steps} training steps, mean of {arguments.seeds} seeds | " + " | ".join(MEASURES) + " |")
    print("| --- |" + " --- |" * len(MEASURES))
    for name, metrics in rows.items():
        means = [statistics.fmean(m[measure] for m in metrics) for measure in MEASURES]
        print(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    print()
    for seed, (tuned, held) in enumerate(zip(rows["tuned online"], rows["start values held"], strict=True)):
        a, b = tuned["test_loss"], held["test_loss"]
        print(
            f"seed {seed}: test loss {a:.4f} tuned, {b:.4f} with the start values held ({a / b - 1:+.1%}),"
            f" test accuracy {tuned['test_accuracy']:.4f} and {held['test_accuracy']:.4f}"
        )


if __name__ == "__main__":
    main()
