"""Which network of a tuned run should be handed over? The digits study on fresh splits, tuned and held.

Every seed draws a split of its own, so that its test images are others. Every 25 training steps the trained
weights and their average are measured; the table has what different ways to choose among these networks come to.

    python benchmarks/which_network.py --seeds 5 --records which_network
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import yaml
from cells import Cell, CellRecords, add_arguments, chosen, table

from selftune.listener import Listener
from selftune.methods import Held, HeldSettings
from selftune.methods.method import HyperStep
from selftune.studies.packaged import find_study
from selftune.studies.study_file import parse_study
from selftune.training import Trainer, run_in_process

FIRST, EVERY = 200, 25  # seed of the first split; training steps between two measurements
TOGETHER = 40  # of the last measurements: 1000 steps

Measures = dict[str, float]
Row = dict[str, Measures]


class Watch(Listener):
    """Measures a trainer's network, as it is trained and averaged, between hyper-steps."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.rows, self._last = trainer, list[Row](), 0

    def hyper_step(self, step: HyperStep) -> None:
        if step.training_step - self._last >= EVERY:
            self._last = step.training_step
            self.rows.append({"weights": self._measured(False), "average": self._measured(True)})

    def _measured(self, averaged: bool) -> Measures:
        return self.trainer.evaluated(self.trainer._built(self.trainer._plain_state(None, averaged)))


def measured(cell: Cell) -> dict[str, Any]:
    """Measures of a run, on the way and at its end."""
    content, seed = yaml.safe_load(find_study("digits").read_text()), int(cell["seed"])
    content["objective"]["split_seed"] = seed
    study = parse_study(yaml.safe_dump(content, sort_keys=False))
    trainer = study.strategy.trainers(seed)(0)
    watch = Watch(trainer)
    held = Held(study.budget, HeldSettings(train_steps=study.method.train_steps))
    run_in_process(held if cell["values"] == "held" else study.strategy.method(), {0: trainer}, watch)
    return {"rows": watch.rows}


def lowest(rows: list[Row]) -> Row:
    return min(rows, key=lambda row: row["weights"]["validation_loss"])


def by_accuracy(measures: Measures) -> tuple[float, float]:
    return -measures["validation_accuracy"], measures["validation_loss"]


def by_loss(measures: Measures) -> float:
    return measures["validation_loss"]


CHOICES: dict[str, Callable[[list[Row]], list[Measures]]] = {
    "last weights": lambda rows: [rows[-1]["weights"]],
    "last average": lambda rows: [rows[-1]["average"]],
    "the average where the loss of the weights is lowest": lambda rows: [lowest(rows)["average"]],
    "there, the weights or the average, by the loss": lambda rows: [min(lowest(rows).values(), key=by_loss)],
    "the average where its own loss is lowest": lambda rows: [min((r["average"] for r in rows), key=by_loss)],
    "the weights by accuracy, then loss": lambda rows: [min((r["weights"] for r in rows), key=by_accuracy)],
    "mean over all averages of the last 1000 steps": lambda rows: [r["average"] for r in rows[-TOGETHER:]],
}


def line(name: str, records: list[dict[str, Any]]) -> list[str]:
    """Means over seeds of what a way to choose comes to, of values held and tuned."""
    found = [name]
    for values in ("held", "tuned"):
        runs = [CHOICES[name](r["result"]["rows"]) for r in records if r["cell"]["values"] == values]
        for measure in ("test_loss", "test_accuracy"):
            found.append(f"{statistics.fmean(statistics.fmean(m[measure] for m in run) for run in runs):.4f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    add_arguments(parser)
    arguments = parser.parse_args()
    seeds = range(FIRST, FIRST + arguments.seeds)
    cells = [{"values": values, "seed": seed} for seed in seeds for values in ("held", "tuned")]
    records = CellRecords(arguments.records)
    failed = [] if arguments.print_only else records.run(chosen(cells, arguments.only), measured)
    print(records.state(cells) + "\n")
    there = records.read(cells)
    if {record["cell"]["values"] for record in there} == {"held", "tuned"}:
        columns = ["network", "held: test loss", "test accuracy", "tuned: test loss", "test accuracy"]
        print(table(columns, [line(name, there) for name in CHOICES]))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
