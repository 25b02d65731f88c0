"""The benchmarks of noise: every way runs, and the tables say what the records hold."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from selftune.regularization.regularizer import regularizers

FOLDER = Path(__file__).parents[2] / "benchmarks"


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def digits():
    before = set(regularizers.names())
    yield module("noise")
    for planted in set(regularizers.names()) - before:  # other files of tests are not to find them
        del regularizers._entries[planted]


@pytest.fixture(scope="module")
def simulated():
    return module("simulated_noise")


def test_it_runs_and_the_tables_are_made(digits):
    cells = [{"way": way, "seed": 0} for way in ("no test", "held until found, then catching up")]
    records = [{"cell": cell, "result": digits.measured(cell, steps=20)} for cell in cells]
    ways, freed = digits.tables(records)
    assert all(f"| {cell['way']}" in ways for cell in cells)
    assert "coin2.strength" in freed
    by_way = {record["cell"]["way"]: record["result"]["moved"]["coin0.strength"] for record in records}
    assert by_way["no test"] != 0
    assert by_way["held until found, then catching up"] == 0


def drifting(digits, way, steps=300):
    """What a way makes of a drift: values after every step."""
    u, path = torch.zeros(1), []
    gate = digits.WAYS[way](u, 0.05)
    for step in range(steps):
        gate.see(torch.tensor([-1.0 if step < 150 else (-1.0) ** (step // 8)]))
        gate.proposal += 0.01 if step < 150 else 0.0
        gate.follow()
        path.append(float(u))
    return gate, path


def test_ways_differ_in_what_they_do_after_a_drift_is_found(digits):
    _, caught_up = drifting(digits, "held until found, then catching up")
    _, however_far = drifting(digits, "the same, however far it is behind")
    _, from_there = drifting(digits, "held until found, then from there")
    again, _ = drifting(digits, "held again", steps=600)
    _, share = drifting(digits, "a share by the evidence")
    waited = sum(value == 0 for value in from_there)
    assert however_far[-1] == pytest.approx(1.5, rel=0.01)
    assert caught_up[-1] == pytest.approx(1.5 - 0.01 * waited + 0.5, rel=0.01)
    assert from_there[-1] == pytest.approx(1.5 - 0.01 * waited, rel=0.01)
    assert again.held.all()
    assert share[40] > 0
    assert share[-1] == pytest.approx(1.5, rel=0.01)


def test_shares_of_alarms_and_steps_are_counted(simulated):
    alarms = simulated.measured({"table": "without a drift", "noise": "normal 0"}, 200)
    assert 0 <= alarms["early"] <= alarms["ever"] < 0.05
    drift = simulated.measured({"table": "with a drift", "noise": "normal 0", "drift": 2.0}, 200)
    assert drift["fixed"] <= 2 < drift["half"] <= drift["most"] < 150
    records = [
        {"cell": {"table": "without a drift", "noise": "normal 0"}, "result": alarms},
        {
            "cell": {"table": "with a drift", "noise": "normal 0", "drift": 2.0},
            "result": drift | {"most": math.inf},
        },
    ]
    cells = [
        {"table": "led by a rule", "way": way, "pull": 0.0}
        for way in ("no test", "held until found, then catching up")
    ]
    records += [{"cell": cell, "result": simulated.measured(cell, 300)} for cell in cells]
    assert 2 * records[-1]["result"]["280"] < records[-2]["result"]["280"]
    without, with_drift, led = simulated.tables(records)
    assert "| 280" in led
    assert "| yes" in without
    assert "never" in with_drift


def test_every_kind_of_noise_is_made(simulated):
    for kind in simulated.KINDS:
        rows = torch.stack(list(simulated.noise(kind, 5)))
        assert rows.shape == (5, simulated.STREAMS)
        assert rows.isfinite().all()
