"""Thousands of strengths on a small CNN: what they cost, and what is found from random starts.

The network learns digits with labels of which a third are wrong (crowd_digits.py). Tuned are weight decay and
Gaussian dropout, by layer or by unit; noise of inputs and label smoothing, one or by class; a weight per example.

Cost: processor time of a tuned training step in plain ones (bare PyTorch, in turns with it, one thread), and peak
memory in that of plain training, for more and more hyperparameters. Found: from random starts, the same ones for
all, the test loss of the network that was best on the validation split. Searches train four networks of that many
steps, over one value per layer or in all; what tunes online trains one.

    python benchmarks/thousands.py --records thousands --starts 20
    python benchmarks/thousands.py --records quick --quick
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from cells import Cell, CellRecords, add_arguments, chosen, table
from crowd_digits import BATCH, EXAMPLE_WEIGHT, crowd_digits, drawn, groups_of, members
from grouped_searches import SEARCHES, Best, Member
from step_cost import peak_bytes

from selftune import Tune
from selftune.lower_level.objective import NetworkObjective
from selftune.methods import (
    Budget,
    OnlineImplicit,
    OnlineImplicitSettings,
    Response,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.methods.cycles import CycleMethod
from selftune.methods.reports import Diverged
from selftune.training import Trainer

torch.set_num_threads(1)

FULL = {
    "images": 320,
    "copies": 16,
    "most_copies": 32,
    "channels": 6,
    "width": 48,
    "cost_channels": 32,
    "cost_width": 256,
    "wide": 2048,
    "steps": 800,
    "warmup": 80,
    "trials": 4,
    "looks": 4,
    "rounds": 9,
    "train_steps": 10,
}
QUICK = {
    **FULL,
    "images": 40,
    "copies": 2,
    "most_copies": 3,
    "channels": 2,
    "width": 8,
    "cost_channels": 2,
    "cost_width": 8,
    "wide": 16,
    "steps": 64,
    "warmup": 16,
    "trials": 2,
    "looks": 2,
    "rounds": 1,
}

SIZES = ("few", "classes", "units", "wide", "examples", "all")
"""Which hyperparameters there are: by layer and in all; by class, too; by unit, too, on a network and on one with
more units; the weights of examples, too, of so many and of twice as many."""
TUNERS = {"implicit": ("few", "units", "examples"), "self_tuning": ("units",)}


def parts_of(
    size: str, settings: dict[str, Any], start: Any = None, network: tuple[str, str] = ("channels", "width")
) -> tuple[NetworkObjective, list[Any]]:
    """The objective and the regularizers of a size, from a start by group or from the middle of the ranges."""
    rank = SIZES.index(size)
    channels, width = (settings[key] for key in network)
    copies = settings["most_copies" if size == "all" else "copies"]
    objective: NetworkObjective = crowd_digits(settings["images"], copies, channels, width)
    objective = with_weights(objective, tuned=rank >= SIZES.index("examples"))
    fine = {"unit": rank >= SIZES.index("units"), "class": rank >= SIZES.index("classes")}
    return objective, members(fine, start)


def with_weights(objective: NetworkObjective, tuned: bool) -> NetworkObjective:
    objective.validation_batch_size = 2 * BATCH
    return objective.with_values(example_weights=Tune(EXAMPLE_WEIGHT) if tuned else EXAMPLE_WEIGHT)


def every(way: str, settings: dict[str, Any]) -> int:
    """Training steps from one hyper-step to the next."""
    return settings["train_steps"] if way.startswith("implicit") else 5


def method_of(way: str, settings: dict[str, Any], pooled: bool) -> CycleMethod:
    """``implicit``, or ``self_tuning`` with gates of a kind; units and classes also move together, where asked."""
    name, _, gates = way.partition(" ")
    cycle: dict[str, Any] = {"warmup_steps": settings["warmup"], "train_steps": every(way, settings)}
    budget = Budget(steps=settings["steps"])
    if name == "implicit":
        cycle |= {"system_steps": 1, "learning_rate": 0.1, "pooled": 0.25 if pooled else None}
        return OnlineImplicit(budget, OnlineImplicitSettings(**cycle))
    response = Response(gates=gates or "factored", rank=1 if gates == "full" else "auto", learning_rate=0.003)
    return SelfTuning(
        budget, SelfTuningSettings(response=response, learning_rate=0.05, pooled=0.25 if pooled else None, **cycle)
    )


# Cost ------------------------------------------------------------------------------------------------------


def plain_cycle(objective: NetworkObjective, steps: int) -> Callable[[], None]:
    """So many training steps in bare PyTorch."""
    torch.manual_seed(0)
    network, split = objective.network(), objective.splits()["train"]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

    def cycle() -> None:
        for _ in range(steps):
            index = torch.randint(len(split["labels"]), (BATCH,))
            F.cross_entropy(network(split["inputs"][index]), split["labels"][index]).backward()
            optimizer.step()
            optimizer.zero_grad()

    return cycle


def tuned_cycle(
    objective: NetworkObjective, regularizers: Any, way: str, size: str, settings: Any
) -> Callable[[], None]:
    """As many, with all that tuning adds, and a hyper-step at the end."""
    method = method_of(way, {**settings, "warmup": 0, "steps": 10**9}, pooled=size != "few")
    trainer = Trainer(objective, regularizers, seed=0)
    method.join(0, trainer.space)

    def cycle() -> None:
        method.tell(0, trainer.execute(method.ask()[0]))

    return cycle


def cost(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    way, size = str(cell["way"]), str(cell["size"])
    network = ("cost_channels", "wide" if size == "wide" else "cost_width")
    objective, regularizers = parts_of(size, settings, network=network)
    steps = every(way, settings)
    makes: dict[str, Callable[[Any], Callable[[], None]]] = {
        "plain": lambda _: plain_cycle(objective, steps),
        "tuned": lambda _: tuned_cycle(objective, regularizers, way, size, settings),
    }
    cycles = {name: make(None) for name, make in makes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cycles}
    for _ in range(settings["rounds"] + 1):
        for name, cycle in random.sample(sorted(cycles.items()), 2):
            begin = time.process_time()  # of this one thread: what others do on the machine is not in it
            cycle()
            seconds[name].append(time.process_time() - begin)
    del cycles
    gc.collect()
    memory = {name: peak_bytes(make, None) for name, make in makes.items()}  # type: ignore[arg-type]
    ratios = [tuned / plain for tuned, plain in zip(seconds["tuned"][1:], seconds["plain"][1:], strict=True)]
    return {
        "hyperparameters": len(Trainer(objective, regularizers).space),
        "plain_milliseconds": 1000 * statistics.median(seconds["plain"][1:]) / steps,
        "time": statistics.median(ratios),
        "memory": memory["tuned"] / memory["plain"],
        "plain_megabytes": memory["plain"] / 2**20,
    }


# Found -----------------------------------------------------------------------------------------------------


def found(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """What a way hands over from a start."""
    way, seed = str(cell["way"]), int(cell["start"])
    name, _, size = way.partition(" ")
    few = Trainer(*parts_of("few", settings))
    start = drawn(groups_of(few.space), torch.Generator().manual_seed(seed))
    objective, regularizers = parts_of(size or "few", settings, start)

    def make(number: int) -> Trainer:
        return Trainer(objective, regularizers, seed=seed, member=number, steps=settings["steps"])

    begin = time.process_time()
    if name in SEARCHES:
        trials = settings["trials"]
        best = SEARCHES[name](make, start, seed, settings["steps"], trials, settings["looks"])
    elif name == "held":
        best = Best()
        Member(make(0), start).train(settings["steps"], best, settings["looks"])
    else:
        best = tuned(make(0), name, size, settings)
    return {**best.measures, "steps": best.steps, "cpu_seconds": time.process_time() - begin}


def tuned(trainer: Trainer, way: str, size: str, settings: dict[str, Any]) -> Best:
    """Tunes while one network trains."""
    best, looks = Best(), settings["looks"]
    method = method_of(way, settings, pooled=size != "few")
    method.join(0, trainer.space)
    while orders := method.ask():
        report = trainer.execute(orders[0])
        method.tell(0, report)
        if isinstance(report, Diverged):
            break
        if trainer.training_step * looks // settings["steps"] > best.steps * looks // settings["steps"]:
            best.look(trainer)
        best.steps = trainer.training_step
    return best


# Cells -----------------------------------------------------------------------------------------------------


def measured(cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    return cost(cell, settings) if cell["table"] == "cost" else found(cell, settings)


def cells_of(starts: int) -> list[Cell]:
    ways = ("implicit", "self_tuning full", "self_tuning factored")
    cells: list[Cell] = [{"table": "cost", "way": way, "size": size} for way in ways for size in SIZES]
    of_starts = ["held", *SEARCHES, *(f"{tuner} {size}" for tuner, sizes in TUNERS.items() for size in sizes)]
    return cells + [{"table": "found", "way": way, "start": s} for s in range(starts) for way in of_starts]


def cost_rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for record in records:
        found = record["result"]
        numbers = (f"{found['hyperparameters']:,}", f"{found['time']:.2f}", f"{found['memory']:.2f}")
        rows.append([record["cell"]["way"], record["cell"]["size"], *numbers])
    return rows


def found_rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row per way: quantiles over the starts that are there."""
    ways: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        ways.setdefault(record["cell"]["way"], []).append(record["result"])
    rows = []
    for way, results in ways.items():
        losses = sorted(result.get("test_loss", math.inf) for result in results)  # what diverged has none
        if losses:
            worst = losses[-max(1, len(losses) // 10) :]
            accuracy = statistics.median(result.get("test_accuracy", 0.0) for result in results)
            seconds, steps = (statistics.median(r[key] for r in results) for key in ("cpu_seconds", "steps"))
            numbers = (f"{statistics.median(losses):.4f}", f"{statistics.fmean(worst):.4f}", f"{accuracy:.4f}")
            rows.append([way, str(len(losses)), *numbers, f"{steps:.0f}", f"{seconds:.0f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--train-steps", type=int, default=10, help="of implicit, from one hyper-step to the next")
    parser.add_argument("--quick", action="store_true", help="a tiny network for a few steps, to see that it runs")
    add_arguments(parser)
    arguments = parser.parse_args()
    settings = {**(QUICK if arguments.quick else FULL), "train_steps": arguments.train_steps}
    cells = cells_of(1 if arguments.quick else arguments.starts)
    records = CellRecords(arguments.records, settings=settings)
    wanted = chosen(cells, arguments.only)
    failed = [] if arguments.print_only else records.run(wanted, lambda cell: measured(cell, settings))
    print(records.state(cells) + "\n")
    there = records.read(cells)
    of = {name: [record for record in there if record["cell"]["table"] == name] for name in ("cost", "found")}
    print(table(["way", "size", "hyperparameters", "time", "memory"], cost_rows(of["cost"])) + "\n")
    columns = ["way", "starts", "test loss, median", "worst decile", "accuracy, median", "steps", "CPU seconds"]
    print(table(columns, found_rows(of["found"])))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
