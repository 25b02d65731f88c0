"""A search as listeners hear it, made of formulas: half of its trials are stopped, one fails, one is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch

from selftune.hyperparameters.distribution import Choices, Integers, LogUniform, Uniform
from selftune.search import SearchSettings, SearchSpace, Swept, TrialRecord, TrialsListener
from selftune.search.searchers import TPESearch
from selftune.search.trial_schedulers import AshaSettings

RATE = "objective.optimization.learning_rate"
OPTIMIZER = "objective.optimization.optimizer"
MOMENTUM = "objective.optimization.momentum"
WIDTH = "objective.hidden"
LAYERS = "objective.layers"
DROPOUT = "regularizers.dropout.rate"

SPACE = SearchSpace(
    (
        Swept(RATE, LogUniform(1e-4, 1.0)),
        Swept(OPTIMIZER, Choices(("adam", "sgd"))),
        Swept(MOMENTUM, Uniform(0.0, 1.0), {OPTIMIZER: ("sgd",)}),
        Swept(WIDTH, Choices(([32, 32], [64, 64], [128]))),
        Swept(LAYERS, Integers(1, 4)),
        Swept(DROPOUT, Uniform(0.0, 0.8)),
    )
)


def settings(**changed: object) -> SearchSettings:
    given = {"metric": "validation_loss", "mode": "min", "report_every": 50, "trials": 24, "steps": 20_000}
    given |= {"searcher": TPESearch(), "scheduler": AshaSettings(), "concurrent": 4}
    return SearchSettings(**{**given, **changed})


def loss(values: dict[str, object], step: int) -> float:
    """What the validation loss of these values is after so many training steps."""
    floor = 0.1 + 0.06 * (math.log10(values[RATE]) + 1.6) ** 2 + 0.3 * (values[DROPOUT] - 0.3) ** 2
    floor += 0.05 * (values[OPTIMIZER] == "sgd") * (1.5 - values.get(MOMENTUM, 0)) + 0.01 * values[LAYERS]
    return floor + 2.2 * math.exp(-step / (40 + 15 * math.log10(values[RATE] * 1e4)))


def trial(number: int, members: int = 2, last: int = 400, seed: int = 0) -> Iterator[TrialRecord]:
    """The records of one trial, with times of its own."""
    values = SPACE.sample(torch.Generator().manual_seed(1000 * seed + number))
    record = TrialRecord(number, values)
    if number % 12 == 7:
        message = "objective.hidden: is too wide for this table"
        yield replace(record, status="refused", message=message)
        return
    yield record
    for step in range(50, last + 1, 50):
        found = loss(values, step)
        measures = {"validation_loss": found, "validation_accuracy": 1 - 0.4 * found}
        is_better = record.best is None or found < record.best
        record = replace(
            record,
            training_step=step,
            spent=members * step,
            seconds=0.02 * step,
            measures=measures,
            best=found if is_better else record.best,
            best_step=step if is_better else record.best_step,
        )
        yield record
        if number % 12 == 4 and step == 100:
            yield replace(record, status="failed", message="the loss is NaN at training step 113")
            return
        if (step == 100 and found > 0.8) or (step == 200 and found > 0.42):
            yield replace(record, status="stopped")
            return
    yield replace(record, status="finished")


def records(trials: int = 24, concurrent: int = 4, seed: int = 0) -> list[TrialRecord]:
    """All records in the order in which they are heard, with the times of the search."""
    heard: list[TrialRecord] = []
    waiting = iter(range(trials))
    running = [trial(number, seed=seed) for number in islice(waiting, concurrent)]
    while running:
        for one in list(running):
            found = next(one, None)
            if found is not None:
                heard.append(replace(found, time=0.5 * len(heard)))
                continue
            running.remove(one)
            if (number := next(waiting, None)) is not None:
                running.append(trial(number, seed=seed))
    return heard


def tell(listener: TrialsListener, heard: list[TrialRecord]) -> None:
    """A whole search, as a listener hears it."""
    listener.resumed({})
    for record in heard:
        listener.heard(record)
    listener.ended()
