"""How often is noise let go that has no drift, and how soon is a drift found? Simulated hypergradients.

Every cell has 1,000 independent streams of one kind of noise. The first table has the share of streams without a
drift that ``DriftTest`` lets go at level 0.05, at any time. The second has the hyper-steps that it takes to find a
drift, in standard deviations of the noise, beside the shortest test of a fixed sample that finds it with a
probability of one half at the same level, and that knows the noise. The third moves hyperparameters by RMSprop at
the rate of the digits study, under hypergradients ``pull * (u - 1)`` with the noise of digits, from u = 0: how far
those without a pull go astray, and how far the others are from their optimum.

    python benchmarks/simulated_noise.py --records simulated_noise
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import Any

import torch
from cells import Cell, CellRecords, add_arguments, chosen, table
from ways_to_hold import LEVEL, WAYS

from selftune.methods.drift_test import DriftTest
from selftune.methods.update_rules import UpdateRule, UpdateSettings
from selftune.shapes import Float, Tensor

STREAMS = 1000
HIGHEST = LEVEL + 1.96 * math.sqrt(LEVEL * (1 - LEVEL) / STREAMS)
"""The upper end of the binomial interval: 95 of 100 times, the share of a test of that level is below it."""


def autoregressive(
    steps: int, coefficient: float, draws: str = "normal", seed: int = 0
) -> Iterator[Float[Tensor, "streams"]]:
    """Streams of noise without a drift, of variance one where it is finite, from their stationary state on."""
    generator, burn = torch.Generator().manual_seed(seed), 200
    x = torch.zeros(STREAMS, dtype=torch.float64)
    for step in range(-burn, steps):
        normal = torch.randn(3 if draws == "heavy" else 1, STREAMS, generator=generator, dtype=torch.float64)
        fresh = normal[0]
        if draws == "heavy":  # Student's t with two degrees of freedom: its variance is infinite
            fresh = normal[0] / normal[1:].square().mean(dim=0).sqrt()
        elif draws == "skewed":  # squares of normal numbers less their mean
            fresh = (normal[0].square() - 1) / math.sqrt(2)
        x = coefficient * x + math.sqrt(1 - coefficient**2) * fresh
        if step >= 0:
            yield x


def two_speeds(steps: int) -> Iterator[Float[Tensor, "streams"]]:
    """Noise with the correlation that planted noise has on digits: a fast part, and a third that lingers."""
    pairs = zip(autoregressive(steps, 0.6, seed=1), autoregressive(steps, 0.95, seed=2), strict=True)
    return (math.sqrt(0.7) * fast + math.sqrt(0.3) * slow for fast, slow in pairs)


def noise(kind: str, steps: int) -> Iterator[Float[Tensor, "streams"]]:
    """Streams of a kind of noise."""
    if kind == "as on digits":
        return two_speeds(steps)
    draws, _, coefficient = kind.partition(" ")
    if draws in ("normal", "heavy", "skewed"):
        return autoregressive(steps, float(coefficient), draws)
    size = {
        "falling": lambda step: math.exp(-5 * step / steps),
        "rising": lambda step: math.exp(5 * step / steps),
        "waves": lambda step: math.exp(2 * math.sin(step / 100)),
    }[draws]
    return (size(step) * x for step, x in enumerate(autoregressive(steps, float(coefficient))))


KINDS = (
    "normal 0", "normal 0.5", "normal 0.9", "normal 0.95", "normal -0.5", "heavy 0", "heavy 0.9", "skewed 0",
    "skewed 0.9", "falling 0.5", "rising 0.5", "waves 0.9", "as on digits",
)  # fmt: skip
WITH_DRIFT, DRIFTS = ("normal 0", "normal 0.9", "as on digits"), (0.25, 0.5, 1.0, 2.0, 4.0)
PULLS, LOOKS, RATE = (0.0, 0.5, 1.0, 2.0, 4.0), (280, 560, 2000), 0.006


def alarms(kind: str, steps: int) -> dict[str, Any]:
    """Shares of streams that were let go at any time within a fifth of the steps, and within all."""
    test, most, early = DriftTest(STREAMS), torch.zeros(STREAMS, dtype=torch.float64), 0.0
    for step, vector in enumerate(noise(kind, steps)):
        test.see(vector)
        most = torch.maximum(most, test.evidence)
        if step + 1 == steps // 5:
            early = float((most >= 1 / LEVEL).double().mean())
    return {"early": early, "ever": float((most >= 1 / LEVEL).double().mean())}


def found(drift: float, kind: str, steps: int) -> dict[str, Any]:
    """Steps until half and nine tenths of the streams with a drift were let go; infinite where they were not."""
    test = DriftTest(STREAMS)
    first = torch.full((STREAMS,), math.inf, dtype=torch.float64)
    for step, vector in enumerate(noise(kind, steps)):
        test.see(vector + drift)
        first = torch.minimum(first, torch.where(test.evidence >= 1 / LEVEL, step + 1.0, math.inf))
    return {"half": float(first.median()), "most": float(first.sort().values[int(0.9 * STREAMS)])}


def fixed_sample(drift: float, kind: str, steps: int) -> float:
    """Steps of the shortest fixed-sample test of that level and a power of one half, the noise being known."""
    total, sums = torch.zeros(STREAMS, dtype=torch.float64), []
    for vector in noise(kind, steps):
        total = total + vector
        sums.append(float(total.std()))
    quantile = 1.96
    return next((n + 1.0 for n, size in enumerate(sums) if (n + 1) * drift >= quantile * size), math.inf)


def led(pull: float, way: str, steps: int) -> dict[str, Any]:
    """Root mean square distances from where the hyperparameters should be, at every look that the steps reach."""
    u, aim, make = torch.zeros(STREAMS, dtype=torch.float64), 1.0 if pull else 0.0, WAYS[way]
    gate = None if make is None else make(u, LEVEL)
    rule = UpdateRule(UpdateSettings("rmsprop", RATE), [u if gate is None else gate.proposal])
    distances = {}
    for step, vector in enumerate(noise("as on digits", min(steps, LOOKS[-1])), 1):
        z = vector + pull * (u - aim)
        if gate is not None:
            gate.see(z)
        rule.step([z])
        if gate is not None:
            gate.follow()
        if step in LOOKS:
            distances[str(step)] = float((u - aim).square().mean().sqrt())
    return distances


def measured(cell: Cell, steps: int) -> dict[str, Any]:
    """What a cell of the three tables holds."""
    if cell["table"] == "led by a rule":
        return led(float(cell["pull"]), str(cell["way"]), steps)
    kind = str(cell["noise"])
    if cell["table"] == "without a drift":
        return alarms(kind, steps)
    drift, steps = float(cell["drift"]), min(steps, LOOKS[-1])
    return found(drift, kind, steps) | {"fixed": fixed_sample(drift, kind, steps)}


def tables(records: list[dict[str, Any]]) -> Iterator[str]:
    """The tables that the records make."""
    rows = [
        [r["cell"]["noise"], f"{r['result']['early']:.3f}", f"{r['result']['ever']:.3f}",
         "yes" if r["result"]["ever"] <= HIGHEST else "no"]
        for r in records
        if r["cell"]["table"] == "without a drift"
    ]  # fmt: skip
    yield table(["noise", "let go in a fifth of the steps", "ever", f"within {HIGHEST:.3f}"], rows)
    rows = [
        [
            r["cell"]["noise"],
            str(r["cell"]["drift"]),
            *(shown(r["result"][key]) for key in ("fixed", "half", "most")),
        ]
        for r in records
        if r["cell"]["table"] == "with a drift"
    ]
    yield table(["noise", "drift", "fixed sample", "half found after", "nine tenths after"], rows)
    led_by = {
        (r["cell"]["way"], r["cell"]["pull"]): r["result"]
        for r in records
        if r["cell"]["table"] == "led by a rule"
    }
    rows = [
        [way, look, *(distance(led_by.get((way, pull), {}).get(look)) for pull in PULLS)]
        for look in map(str, LOOKS)
        for way in dict.fromkeys(way for way, _ in led_by)
    ]
    yield table(["way", "hyper-steps", *(f"pull {pull:g}" for pull in PULLS)], rows)


def distance(found: float | None) -> str:
    return "-" if found is None else f"{found:.2f}"


def shown(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{steps:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000, help="length of the streams, in hyper-steps")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[Cell] = [{"table": "without a drift", "noise": kind} for kind in KINDS]
    cells += [{"table": "with a drift", "noise": kind, "drift": drift} for kind in WITH_DRIFT for drift in DRIFTS]
    cells += [{"table": "led by a rule", "way": way, "pull": pull} for way in WAYS for pull in PULLS]
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
