"""What benchmarks/driver_cost.py counts; its trials run on the cluster in tests/schedulers."""

import importlib.util
import sys
from pathlib import Path

from selftune.search import TrialRecord

FILE = Path(__file__).parents[2] / "benchmarks" / "driver_cost.py"


def test_memory_and_reports_are_noted_after_each_quarter(monkeypatch):
    spec = importlib.util.spec_from_file_location("driver_cost", FILE)
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, benchmark)
    spec.loader.exec_module(benchmark)
    lines = []
    meter = benchmark.Meter(8, lines.append)
    for number in range(8):
        meter.heard(TrialRecord(number, {}, training_step=0))
        meter.heard(TrialRecord(number, {}, training_step=1))
        meter.heard(TrialRecord(number, {}, "finished", training_step=1))
    assert (meter.ended_trials, meter.reports) == (8, 8)
    assert list(meter.memory) == [2, 4, 6, 8]
    assert len(lines) == 4
    assert all(memory > 1 for memory in meter.memory.values())
    trial = benchmark.ShortTrial({"values": {"x": 0.3, "y": 1.0}})
    assert [trial.train()["done"] for _ in range(5)] == [False] * 4 + [True]
