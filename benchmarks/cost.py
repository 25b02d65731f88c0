"""What a budget for tuning costs, and what it finds.

    python benchmarks/cost.py --records cost [--device cuda] [--only network=cnn] [--picture docs/cost.svg]

`measured=step` trains a network plainly, in bare PyTorch, and tuned, in turns, with `method.cost` and without, and
says how many plain steps a tuned step takes, all in (regularizers, fitting the response, hyper-steps), and how
much more memory it holds at its peak (see step_cost.py). On a CPU, seconds are those of the processor.

`measured=found` runs packaged studies with the same budgets, and with the start values held, and says the test
loss of the network that comes out, and how long it took, in those of the held run of the same seed.

One record per cell; cells that are there are not measured again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from best_response_step import cnn, mlp
from cells import Cell, CellRecords, add_arguments, chosen, table
from real_networks import EVERYWHERE, SMOOTHING, decoder, image_losses, resnet
from step_cost import Problem, measure

from selftune.methods import Held, HeldSettings
from selftune.studies.packaged import find_study
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

COSTS = ("none", "3", "2", "1.5")
SETTLE = 14  # cycles of five training steps, after which a budget has been measured and kept for a while


def small(make: Callable[[], Any], batch: int) -> Problem:
    """A network of best_response_step.py, which brings inputs for its batch."""

    def inputs() -> tuple[torch.Tensor, torch.Tensor]:
        example = make()[1]
        return torch.randn(batch, *example.shape[1:]), torch.randint(10, (batch,))

    return Problem(lambda: make()[0], (inputs(), inputs()), image_losses, {**EVERYWHERE, **SMOOTHING})


NETWORKS: dict[str, Callable[[bool], Problem]] = {
    "mlp": lambda quick: small(mlp, 64),
    "cnn": lambda quick: small(cnn, 8 if quick else 128),
    "resnet-18": lambda quick: resnet(2 if quick else 64),
    "gpt": lambda quick: decoder(2 if quick else 32),
}
"""Of what a step is measured: an MLP 64-256-256-10, a CNN 3-10-20-40, ResNet-18, a small transformer."""

STUDIES = ("digits", "digit_images")
"""Packaged studies that are run: an MLP and a CNN."""


def cells_of(seeds: int, device: str) -> list[Cell]:
    step: list[Cell] = [
        {"measured": "step", "network": name, "cost": cost, "device": device}
        for name in NETWORKS
        for cost in ("held", *COSTS)
    ]
    found: list[Cell] = [
        {"measured": "found", "study": study, "cost": cost, "seed": seed}
        for study in STUDIES
        for seed in range(seeds)
        for cost in ("held", *COSTS)
    ]
    return step + found


def measured(cell: Cell, rounds: int, quick: bool) -> dict[str, Any]:
    if cell["measured"] == "step":
        torch.manual_seed(0)
        known: dict[str, dict[str, Any]] = {"held": {"held": True}, "none": {}}
        cost = str(cell["cost"])
        settings = known[cost] if cost in known else {"cost": float(cost)}
        return asdict(measure(NETWORKS[str(cell["network"])](quick), rounds, SETTLE, **settings))
    content = yaml.safe_load(find_study(str(cell["study"])).read_text())
    if cell["cost"] not in ("held", "none"):
        content["method"]["cost"] = float(cell["cost"])
    if quick:
        content["budget"]["steps"], content["method"]["warmup_steps"] = 30, 10
    study = parse_study(yaml.safe_dump(content, sort_keys=False))
    trainer = study.strategy.trainers(int(cell["seed"]))(0)
    held = Held(study.budget, HeldSettings(train_steps=study.method.train_steps))
    began = time.process_time()
    reports = run_in_process(held if cell["cost"] == "held" else study.strategy.method(), {0: trainer})
    return {"processor_seconds": time.process_time() - began, **reports[0].metrics}


def steps_table(records: list[dict[str, Any]]) -> str:
    rows = []
    for record in records:
        cell, found = record["cell"], record["result"]
        rows.append(
            [
                cell["network"],
                cell["cost"],
                f"{found['time']:.2f}",
                f"{found['memory']:.2f}",
                found["economy"],
                f"{found['plain_milliseconds']:.1f} ms",
            ]
        )
    return table(["network", "cost", "plain steps", "plain memory", "a fit", "plain step"], rows)


def found_rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every study and budget: means over the seeds that are there, and paired with all of the work."""
    groups: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for record in records:
        cell = record["cell"]
        groups.setdefault((cell["study"], cell["cost"]), {})[cell["seed"]] = record["result"]
    rows = []
    for (study, cost), runs in groups.items():
        held, full = groups.get((study, "held"), {}), groups.get((study, "none"), {})
        times = [
            run["processor_seconds"] / held[seed]["processor_seconds"]
            for seed, run in runs.items()
            if seed in held
        ]
        paired = [
            run["best_test_loss"] - full[seed]["best_test_loss"] for seed, run in runs.items() if seed in full
        ]
        rows.append(
            {
                "study": study,
                "cost": cost,
                "seeds": len(runs),
                "time": statistics.fmean(times) if times else None,
                "loss": statistics.fmean(run["best_test_loss"] for run in runs.values()),
                "difference": statistics.fmean(paired) if paired else None,
                "error": statistics.stdev(paired) / len(paired) ** 0.5 if len(paired) > 1 else None,
            }
        )
    return rows


def found_table(rows: list[dict[str, Any]]) -> str:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [
        [
            row["study"],
            row["cost"],
            row["seeds"],
            shown(row["time"], ".2f"),
            shown(row["loss"], ".4f"),
            f"{shown(row['difference'], '+.4f')} ± {shown(row['error'], '.4f')}"
            if row["error"] is not None
            else "",
        ]
        for row in rows
    ]
    return table(["study", "cost", "seeds", "held runs", "test loss", "beside all of the work"], lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time against test loss, a panel for every study that was run."""
    from matplotlib.figure import Figure

    words = {"held": "nothing tuned", "none": "all of the work"}
    studies = list(dict.fromkeys(row["study"] for row in rows))
    figure = Figure(figsize=(5 * len(studies), 3.4), layout="constrained")
    for number, study in enumerate(studies, 1):
        axes = figure.add_subplot(1, len(studies), number)
        own = sorted((row for row in rows if row["study"] == study and row["time"]), key=lambda row: row["time"])
        axes.plot([row["time"] for row in own], [row["loss"] for row in own], "o")
        for row in own:
            label = words.get(row["cost"], f"cost {row['cost']}")
            axes.annotate(label, (row["time"], row["loss"]), (0, 6), textcoords="offset points", ha="center")
        axes.margins(0.25)
        axes.set(title=study, xlabel="time, in held runs", ylabel="test loss")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12, help="cycles of five steps that are timed")
    parser.add_argument("--device", default="cpu", help="of `measured=step`")
    parser.add_argument("--picture", type=Path, help="a file for what is found")
    parser.add_argument("--quick", action="store_true", help="as little as shows that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if arguments.quick else arguments.rounds
    cells = chosen(cells_of(arguments.seeds, arguments.device), arguments.only)
    records = CellRecords(arguments.records, {"rounds": rounds, "quick": arguments.quick})

    def measure_cell(cell: Cell) -> dict[str, Any]:
        with torch.device(arguments.device if cell["measured"] == "step" else "cpu"):
            return measured(cell, rounds, arguments.quick)

    failed = [] if arguments.print_only else records.run(cells, measure_cell)
    there = records.read(cells)
    print(steps_table([record for record in there if record["cell"]["measured"] == "step"]), end="\n\n")
    rows = found_rows([record for record in there if record["cell"]["measured"] == "found"])
    print(found_table(rows), end="\n\n")
    print(records.state(cells))
    if arguments.picture:
        draw(rows, arguments.picture)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
