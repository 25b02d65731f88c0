"""What one slow trainer costs a team, and what it costs not to wait for it.

    python benchmarks/slow_trainers.py [--steps 1000] [--seeds 2] [--slowness 2]

Four trainers tune weight decay per layer and label smoothing of an MLP on digits from poor values, on a virtual
clock: a training step of the fourth takes ``slowness`` times as long as one of the others, whose steps vary by a
fifth. Times are those of the clock, in units of the barrier's with four equally fast trainers. *Last loss* is the
mean validation loss of the networks that come out, *used* the share of hypergradients that moved something.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable

from selftune.objectives.tasks.digits import Digits

from selftune import Tune
from selftune.methods import Budget, Report, SelfTuning, SelfTuningSettings, Synchronization
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory
from selftune.training.simulator import simulate

TEAM = 4
RULES = {
    "barrier": Synchronization(),
    "quorum of 3, late ones discarded": Synchronization("quorum", reports=3),
    "quorum of 3, late ones used": Synchronization("quorum", reports=3, late="used"),
    "asynchronous": Synchronization("asynchronous"),
    "asynchronous, exponent: 0": Synchronization("asynchronous", exponent=0.0),
}


def durations(seed: int, slowness: float) -> Callable[[int], float]:
    """Draws how long a training step of a member takes."""
    draws = {member: random.Random(100 * seed + member) for member in range(TEAM)}
    return lambda member: draws[member].uniform(0.8, 1.2) * (slowness if member == TEAM - 1 else 1.0)


def run(rule: Synchronization, steps: int, seed: int, slowness: float) -> dict[str, float]:
    objective = Digits(hidden=(64, 64), train_examples=300)
    chosen = [
        regularizers["weight_decay"](parts="layer", strength=Tune(0.1)),
        regularizers["label_smoothing"](epsilon=Tune(0.2)),
    ]
    factory = TrainerFactory(objective, chosen, seed=seed, steps=steps)
    draw, done = durations(seed, slowness), dict.fromkeys(range(TEAM), 0)
    trainers = {member: factory(member) for member in range(TEAM)}

    def duration(report: Report) -> float:  # asked right after a trainer has trained: it is the one that is ahead
        if report.kind != "cycle":
            return 0.0
        member = next(m for m, one in trainers.items() if one.training_step > done[m])
        count = trainers[member].training_step - done[member]
        done[member] = trainers[member].training_step
        return sum(draw(member) for _ in range(count))

    settings = SelfTuningSettings(learning_rate=0.03, synchronization=rule)
    method = SelfTuning(Budget(steps=steps), settings, TEAM)
    simulation = simulate(method, trainers, duration)
    reports = {event.member: event.report for event in simulation.events}
    out = method.results(reports)
    looks = sum(getattr(event.report, "hypergradient", None) is not None for event in simulation.events)
    used = sum(step.diagnostics.get("reports", TEAM) for _, step in simulation.steps)
    return {
        "time": simulation.seconds,
        "steps": len(simulation.steps),
        "used": used / looks,
        "networks": len(out),
        "loss": statistics.fmean(report.metrics["validation_loss"] for report in out.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--slowness", type=float, default=2.0)
    given = parser.parse_args()
    unit = statistics.fmean(run(RULES["barrier"], given.steps, seed, 1.0)["time"] for seed in range(given.seeds))
    print("| `synchronization` | time | hyper-steps | used | networks | last loss |\n|---|---|---|---|---|---|")
    for name, rule in RULES.items():
        found = [run(rule, given.steps, seed, given.slowness) for seed in range(given.seeds)]
        mean = {key: statistics.fmean(one[key] for one in found) for key in found[0]}
        print(
            f"| {name} | {mean['time'] / unit:.2f} | {mean['steps']:.0f} | {mean['used']:.2f} |"
            f" {mean['networks']:.0f} | {mean['loss']:.4f} |"
        )


if __name__ == "__main__":
    main()
