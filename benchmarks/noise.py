"""What does a level of significance cost and bring? The digits study with noise planted in it.

Three hyperparameters are added that do nothing. The first table compares ways to hold what cannot be told from
noise: the test loss, and how far what does nothing moved, in unconstrained units. The second says after how many
hyper-steps each hyperparameter was let go.

    python benchmarks/noise.py --seeds 3 --records noise
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from typing import Any

import torch
import yaml
from cells import Cell, CellRecords, add_arguments, chosen, table
from ways_to_hold import CAUGHT_UP, LEVEL, NO_TEST, WAYS

from selftune import Positive
from selftune.hyperparameters import Hyperparameter
from selftune.listener import Listener
from selftune.methods import cycles
from selftune.methods.method import HyperStep
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.shapes import Tensor
from selftune.studies.packaged import find_study
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

PLANTED = 3


def plant(number: int) -> None:
    """Registers a regularizer that pulls each example's logits to zero or away from it, as a fair coin falls."""

    def penalty(self: Regularizer, step: Any) -> Tensor:
        side = 2.0 * (step.rand(len(step.logits), examples=0) < 0.5).to(step.logits) - 1.0
        return side * step.logits.square().mean(dim=-1)

    strength = Hyperparameter("strength", Positive(sweep=(1e-4, 1.0)), 0.001)
    members = {
        "__doc__": "Noise: its mean gradient is zero, whatever its strength.",
        "__module__": __name__,
        "name": f"coin{number}",
        "family": "supervision",
        "kind": "penalty",
        "reference": Reference("planted noise"),
        "hyperparameters": (strength,),
        "needs": frozenset({"logits"}),
        "penalty": penalty,
    }
    register(type(f"Coin{number}", (Regularizer,), members))


for _number in range(PLANTED):
    plant(_number)


def study_of(way: str, steps: int) -> Study:
    """The digits study with planted noise."""
    content = yaml.safe_load(find_study("digits").read_text())
    content["regularizers"] |= {f"coin{number}": {"strength": {"start": 0.001}} for number in range(PLANTED)}
    content["method"]["significance"] = None if WAYS[way] is None else LEVEL
    content["method"]["warmup_steps"] = min(content["method"]["warmup_steps"], steps // 10)
    content["budget"]["steps"] = steps
    return parse_study(yaml.safe_dump(content, sort_keys=False))


class Watch(Listener):
    """Remembers when each hyperparameter was let go, and how far planted noise was from its start at most."""

    def __init__(self, study: Study, method: Any) -> None:
        self.study, self.method = study, method
        self.let_go: dict[str, int] = {}
        self.farthest = dict.fromkeys(range(PLANTED), 0.0)

    def hyper_step(self, step: HyperStep) -> None:
        names, gate = self.study.space.names, self.method._gate
        for column, name in enumerate(names):
            if gate is not None and not gate.held[column]:
                self.let_go.setdefault(name, step.number)
        away = (self.method._u - self.study.space.start_as(torch.float32)).abs()
        for number in range(PLANTED):
            at = float(away[names.index(f"coin{number}.strength")])
            self.farthest[number] = max(self.farthest[number], at)


def measured(cell: Cell, steps: int) -> dict[str, Any]:
    """One run of the study."""
    way, seed = str(cell["way"]), int(cell["seed"])
    study, gate = study_of(way, steps), cycles.Gate
    cycles.Gate = WAYS[way] or gate  # type: ignore[misc]
    try:
        method = study.strategy.method()
        watch = Watch(study, method)
        metrics = run_in_process(method, {0: study.strategy.trainers(seed)(0)}, watch)[0].metrics
    finally:
        cycles.Gate = gate  # type: ignore[misc]
    moved = method._u - study.space.start_as(torch.float32)
    return {
        "metrics": dict(metrics),
        "let_go": watch.let_go,
        "moved": dict(zip(study.space.names, moved.tolist(), strict=True)),
        "farthest": list(watch.farthest.values()),
    }


def is_planted(name: str) -> bool:
    return name.startswith("coin")


def row_of_way(way: str, runs: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]) -> list[str]:
    """Means over seeds; the difference to no test is paired by seed."""
    results = list(runs.values())
    losses = {seed: run["metrics"]["test_loss"] for seed, run in runs.items()}
    apart = [loss - reference[seed]["metrics"]["test_loss"] for seed, loss in losses.items() if seed in reference]
    ends = [moved for run in results for name, moved in run["moved"].items() if is_planted(name)]
    gone = sum(is_planted(name) for run in results for name in run["let_go"])
    best = statistics.fmean(run["metrics"]["best_test_loss"] for run in results)
    return [
        way,
        f"{len(results)}",
        f"{statistics.fmean(losses.values()):.4f}",
        "-" if way == NO_TEST else ", ".join(f"{difference:+.4f}" for difference in apart),
        f"{best:.4f}",
        f"{math.sqrt(statistics.fmean(end**2 for end in ends)):.2f}",
        f"{max(at for run in results for at in run['farthest']):.2f}",
        "-" if way == NO_TEST else f"{gone} of {len(ends)}",
    ]


def releases(results: list[dict[str, Any]]) -> list[list[str]]:
    """After how many hyper-steps each hyperparameter was let go, seed by seed."""
    names = dict.fromkeys(name for one in results for name in one["moved"])
    return [[name, *(str(one["let_go"].get(name, "held")) for one in results)] for name in names]


def tables(records: list[dict[str, Any]]) -> Iterator[str]:
    """The tables that the records make."""
    by_way: dict[str, dict[int, dict[str, Any]]] = {way: {} for way in WAYS}
    for record in records:
        by_way[record["cell"]["way"]][record["cell"]["seed"]] = record["result"]
    columns = [
        "way", "seeds", "test loss", "less no test, by seed", "best network", "noise: moved", "at most", "let go",
    ]  # fmt: skip
    reference = by_way[NO_TEST]
    yield table(columns, [row_of_way(way, runs, reference) for way, runs in by_way.items() if runs])
    if ours := by_way[CAUGHT_UP]:
        yield table(["hyperparameter", *(f"seed {seed}" for seed in ours)], releases(list(ours.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000, help="training steps")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[Cell] = [{"way": way, "seed": seed} for seed in range(arguments.seeds) for way in WAYS]
    records = CellRecords(arguments.records, settings={"steps": arguments.steps})
    failed = []
    if not arguments.print_only:
        failed = records.run(chosen(cells, arguments.only), lambda cell: measured(cell, arguments.steps))
    print(records.state(cells))
    for one in tables(records.read(cells)):
        print(f"\n{one}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
