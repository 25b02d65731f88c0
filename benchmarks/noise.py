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

from selftune import Positive
from selftune.hyperparameters import Hyperparameter
from selftune.listener import Listener
from selftune.methods import cycles
from selftune.methods.gate import CATCH_UP, Gate
from selftune.methods.method import HyperStep
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.shapes import Float, Tensor
from selftune.studies.packaged import find_study
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

LEVEL, PLANTED = 0.05, 3


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


class LetGo(Gate):
    """Nothing is caught up: what is let go begins to move where it was held."""

    def follow(self) -> None:
        self._behind = self._behind * (CATCH_UP / (CATCH_UP - 1))
        super().follow()


class HeldAgain(Gate):
    """What is let go is held again when its evidence has fallen to where it began."""

    def see(self, hypergradient: Float[Tensor, "n"]) -> None:
        was_held = self.held.clone()
        super().see(hypergradient)
        self._test._capital *= (20 / self.significance / self.evidence[:, None]).clamp(max=1.0)
        again = ~was_held & (self.evidence <= 1)
        self._test.restart(again)
        self.held |= again


class Share(Gate):
    """Nothing is held wholly: a share of the way is taken that grows with the logarithm of the evidence."""

    def __init__(self, start: Float[Tensor, "n"], significance: float) -> None:
        super().__init__(start, significance)
        self._start, self._share = start.clone(), torch.zeros_like(start)

    def follow(self) -> None:
        share = (self.evidence.log() / -math.log(self.significance)).clamp(0, 1).to(self._share)
        self._share = torch.maximum(self._share, share)
        aim = self._start + self._share * (self.proposal - self._start)
        self.values.copy_(self.values + (aim - self.values) / CATCH_UP)


WAYS: dict[str, type[Gate] | None] = {
    "no test": None,
    "held until found, then catching up": Gate,
    "held until found, then from there": LetGo,
    "held again": HeldAgain,
    "a share by the evidence": Share,
}


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


def row_of_way(way: str, results: list[dict[str, Any]], reference: list[dict[str, Any]]) -> list[str]:
    """Means over seeds; the difference to no test is paired by seed."""
    losses = [one["metrics"]["test_loss"] for one in results]
    apart = [a - b["metrics"]["test_loss"] for a, b in zip(losses, reference, strict=False)]
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    ends = [moved for one in results for name, moved in one["moved"].items() if is_planted(name)]
    far = [at for one in results for at in one["farthest"]]
    gone = sum(is_planted(name) for one in results for name in one["let_go"])
    best = statistics.fmean(one["metrics"]["best_test_loss"] for one in results)
    return [
        way,
        f"{len(results)}",
        f"{statistics.fmean(losses):.4f}",
        "-" if way == "no test" else f"{statistics.fmean(apart):+.4f} ± {error:.4f}",
        f"{best:.4f}",
        f"{math.sqrt(statistics.fmean(end**2 for end in ends)):.2f}",
        f"{max(far):.2f}",
        "-" if way == "no test" else f"{gone} of {len(ends)}",
    ]


def releases(results: list[dict[str, Any]]) -> list[list[str]]:
    """After how many hyper-steps each hyperparameter was let go, seed by seed."""
    names = dict.fromkeys(name for one in results for name in one["moved"])
    return [[name, *(str(one["let_go"].get(name, "held")) for one in results)] for name in names]


def tables(records: list[dict[str, Any]]) -> Iterator[str]:
    """The tables that the records make."""
    by_way = {way: [r["result"] for r in records if r["cell"]["way"] == way] for way in WAYS}
    columns = [
        "way", "seeds", "test loss", "less no test", "best network", "planted: moved", "at most", "let go",
    ]  # fmt: skip
    reference = by_way["no test"]
    yield table(columns, [row_of_way(way, of_way, reference) for way, of_way in by_way.items() if of_way])
    if ours := by_way["held until found, then catching up"]:
        yield table(["hyperparameter", *(f"run {number}" for number in range(len(ours)))], releases(ours))


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
