"""From which start values does tuning online find its way? The digits study from small, balanced and large ones.

For every pair of start values of dropout and input noise, at equal training steps: the tuned network and the same
network with its start values held, and what input noise ended at, seed by seed.

    python benchmarks/small_starts.py --seeds 3 --records small_starts
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import yaml
from cells import Cell, CellRecords, add_arguments, chosen, table

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


def measured(cell: Cell) -> dict[str, Any]:
    """The digits study from the start values of a cell, tuned and held."""
    study, seed = study_from(float(cell["dropout"]), float(cell["sigma"])), int(cell["seed"])
    method = study.strategy.method()
    tuned = run_in_process(method, {0: study.strategy.trainers(seed)(0)})[0].metrics
    at = study.space.names.index("gaussian_input_noise.sigma")
    start = Segment(study.budget.steps, study.space.constrain(study.space.start))
    held = run_in_process(Replay([start], study.budget.steps), {0: study.strategy.trainers(seed)(0)})[0].metrics
    return {"tuned": dict(tuned), "held": dict(held), "sigma": float(method.hyperparameters[at])}


def rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """Means over the seeds that are there, a row per pair of start values."""
    found = []
    for dropout, sigma in STARTS:
        of_row = [r["result"] for r in records if (r["cell"]["dropout"], r["cell"]["sigma"]) == (dropout, sigma)]
        if of_row:
            means = [
                statistics.fmean(r[which][name] for r in of_row)
                for which in ("tuned", "held")
                for name in MEASURES
            ]
            ends = ", ".join(f"{r['sigma']:.2g}" for r in of_row)
            found.append([f"{dropout}", f"{sigma}", *(f"{mean:.4f}" for mean in means), ends])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    add_arguments(parser)
    arguments = parser.parse_args()
    cells = [
        {"dropout": dropout, "sigma": sigma, "seed": seed}
        for dropout, sigma in STARTS
        for seed in range(arguments.seeds)
    ]
    records = CellRecords(arguments.records)
    failed = [] if arguments.print_only else records.run(chosen(cells, arguments.only), measured)
    print(records.state(cells) + "\n")
    columns = [
        "start of dropout",
        "of sigma",
        "tuned: test loss",
        "test accuracy",
        "held: test loss",
        "test accuracy",
    ]
    print(table([*columns, "sigma ends at"], rows(records.read(cells))))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
