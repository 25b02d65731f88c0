"""From which start values does tuning online find its way? The digits study from small, balanced and large ones.

For every pair of start values of dropout and input noise, at equal training steps: the tuned network and the same
network with its start values held, and what input noise ended at, seed by seed.

    python benchmarks/small_starts.py --seeds 3
"""

from __future__ import annotations

import argparse
import statistics

import yaml

from selftune.methods import Replay, Segment
from selftune.studies.packaged import find_study
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

STARTS = ((0.05, 0.05), (0.05, 0.22), (0.3, 0.6))  # of every dropout rate, and of sigma
MEASURES = ("test_loss", "test_accuracy")


def study_from(dropout: float, sigma: float) -> Study:
    """The digits study with these start values."""
    content = yaml.safe_load(find_study("digits").read_text())
    content["regularizers"]["dropout"]["rate"] = {"start": dropout}
    content["regularizers"]["gaussian_input_noise"]["sigma"] = {"start": sigma}
    return parse_study(yaml.safe_dump(content, sort_keys=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    columns = [
        "start of dropout",
        "of sigma",
        "tuned: test loss",
        "test accuracy",
        "held: test loss",
        "test accuracy",
    ]
    print("| " + " | ".join([*columns, "sigma ends at"]) + " |\n" + "| --- " * 7 + "|")
    for dropout, sigma in STARTS:
        study = study_from(dropout, sigma)
        held = Segment(study.budget.steps, study.space.constrain(study.space.start))
        at = study.space.names.index("gaussian_input_noise.sigma")
        tuned, fixed, ends = [], [], []
        for seed in seeds:
            method = study.strategy.method()
            tuned.append(run_in_process(method, {0: study.strategy.trainers(seed)(0)})[0].metrics)
            ends.append(f"{float(method.hyperparameters[at]):.2g}")
            replay = Replay([held], study.budget.steps)
            fixed.append(run_in_process(replay, {0: study.strategy.trainers(seed)(0)})[0].metrics)
        means = [statistics.fmean(m[name] for m in found) for found in (tuned, fixed) for name in MEASURES]
        cells = [f"{dropout}", f"{sigma}", *(f"{mean:.4f}" for mean in means), ", ".join(ends)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
