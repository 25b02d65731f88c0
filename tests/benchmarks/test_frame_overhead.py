"""The ways that benchmarks/frame_overhead.py compares train, and its goal is the stated one."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "frame_overhead.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("frame_overhead", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_way_trains(benchmark):
    for bare, ours in benchmark.WAYS.values():
        for make in (bare, ours):
            assert benchmark.seconds(make(benchmark.CASES["MLP"]), 2) > 0


@pytest.mark.parametrize(
    ("milliseconds", "ratio", "added", "met"),
    [(1.0, 2.0, 50.0, True), (1.0, 1.01, 51.0, False), (10.0, 1.03, 300.0, True), (10.0, 1.04, 400.0, False)],
)
def test_goal(benchmark, milliseconds, ratio, added, met):
    assert benchmark.within(milliseconds, ratio, added) is met
