"""What tuning costs, with a clock that says what the test wants."""

from __future__ import annotations

import itertools

import pytest
import torch

from selftune.training.estimators import cost as module
from selftune.training.estimators.cost import CostKeeper, Economy, Seconds, cheapest_enough

SHAPES = {
    "dispatch alone": Seconds(training=1.0, fit=(1.6, 0.01), hypergradient=(1.5, 0.3), scaled=2.0),
    "arithmetic alone": Seconds(training=1.0, fit=(0.01, 1.6), hypergradient=(0.01, 8.0), scaled=2.5),
    "both": Seconds(training=1.0, fit=(0.4, 1.2), hypergradient=(0.5, 1.0), scaled=2.0),
}


@pytest.mark.parametrize("seconds", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("budget", [1.6, 2.0, 3.0])
def test_a_budget_is_kept_and_used(seconds, budget):
    economy, costs = cheapest_enough(seconds, budget, cycle=5, scale_every=4, validation=1000)
    assert 1 < costs <= budget + 1e-9
    seen = 1 / (economy.every * economy.parts)
    left = budget - 1 - (costs - 1 - seconds.fitting(economy.every, economy.parts))
    ways = itertools.product(range(1, 17), range(1, 9))
    assert seen >= 0.6 * max(1 / (k * p) for k, p in ways if seconds.fitting(k, p) <= left)


def test_what_is_dear_per_call_is_rare_and_what_is_dear_per_example_sees_few():
    rare, _ = cheapest_enough(SHAPES["dispatch alone"], 1.5, cycle=5, scale_every=4, validation=600)
    assert rare.every > 1
    assert rare.parts == 1
    small, _ = cheapest_enough(SHAPES["arithmetic alone"], 1.5, cycle=5, scale_every=4, validation=5000)
    assert small.every == 1
    assert small.parts > 1
    assert small.validation_parts > 1


def test_a_budget_that_cannot_be_kept_buys_the_least_there_is():
    economy, costs = cheapest_enough(SHAPES["both"], 1.001, cycle=1, scale_every=1, validation=64)
    assert economy == Economy(every=16, parts=8, validation_parts=2)
    assert costs > 1.001


class Clock:
    """Stands for the stopwatch: its seconds are those that the test lets pass."""

    passed = 0.0

    def __init__(self, device):
        self.last = Clock.passed

    def taken(self):
        before, self.last = self.last, Clock.passed
        return self.last - before


@pytest.fixture
def keeper(monkeypatch):
    monkeypatch.setattr(module, "Stopwatch", Clock)
    return made(2.0)


def made(cost, mean=lambda numbers: numbers):
    return CostKeeper(cost, 5.0, 4, torch.device("cpu"), mean, Economy())


def train(keeper, steps, training=1.0, fit=(0.4, 1.2), judging=(0.5, 1.0), validation=1000, first=0):
    """Training steps that take so long, and what they cost in plain ones."""
    spent = 0.0
    for number in range(first, first + steps):
        Clock.passed += training
        parts = keeper.due(number)
        if parts is not None:
            with keeper.fitting(1 / parts):
                took = fit[0] + fit[1] / parts
                Clock.passed += took
                spent += took
        if number % 5 == 4:
            share, scaled = 1 / keeper.judged(validation), number % 20 == 4
            with keeper.judging(share, scaled):
                took = (judging[0] + judging[1] * share) * (2 if scaled else 1)
                Clock.passed += took
                spent += took
            Clock.passed += 100.0  # the way of a report is nobody's time
            keeper.begin()
    return 1 + spent / (steps * training)


def test_it_keeps_the_budget_by_what_it_measures(keeper):
    train(keeper, 100)
    assert keeper.expected == pytest.approx(train(keeper, 400, first=100), rel=0.05)
    assert 1.5 < keeper.expected <= 2.0


def test_a_budget_that_cannot_be_kept_is_said_once(monkeypatch):
    monkeypatch.setattr(module, "Stopwatch", Clock)
    keeper = made(1.2)
    with pytest.warns(
        UserWarning, match=r"cost 1\.2 cannot be kept .* costs 1\.5\d; raise method\.train_steps"
    ) as told:
        train(keeper, 1100, fit=(0.1, 0.1), judging=(2.0, 0.0))
    assert len(told) == 1


def test_it_measures_again(keeper):
    train(keeper, 100)
    before = keeper.economy
    train(keeper, 1500, fit=(4.0, 12.0), first=100)
    assert keeper.economy.every * keeper.economy.parts > before.every * before.parts
    assert train(keeper, 400, fit=(4.0, 12.0), first=1600) <= 2.1


def test_without_a_budget_it_does_as_told(monkeypatch):
    monkeypatch.setattr(module, "Stopwatch", Clock)
    keeper = CostKeeper(None, 5.0, 1, torch.device("cpu"), lambda numbers: numbers, Economy(3, 2, 4))
    assert [keeper.due(number) for number in range(6)] == [None, None, 2, None, None, 2]
    assert keeper.judged(100) == 4
    assert keeper.expected is None


def test_processes_that_train_together_choose_by_their_mean(monkeypatch):
    monkeypatch.setattr(module, "Stopwatch", Clock)
    told = []

    def mean(numbers):
        told.append(numbers)
        return numbers * torch.tensor([1.0, 10.0, 10.0, 1.0, 1.0, 1.0], dtype=numbers.dtype)

    alone, together = made(2.0), made(2.0, mean)
    for keeper in (alone, together):
        train(keeper, 100)
    assert len(told) >= 2
    assert together.economy.every * together.economy.parts > alone.economy.every * alone.economy.parts


@pytest.mark.parametrize("steps", [2, 8, 60, 300])
def test_it_goes_on_from_its_state(keeper, steps):
    train(keeper, steps)
    again = made(2.0)
    again.load_state_dict(keeper.state_dict())
    for one in (keeper, again):
        train(one, 200, first=steps)
    assert again.economy == keeper.economy
    assert again.state_dict().keys() == keeper.state_dict().keys()
