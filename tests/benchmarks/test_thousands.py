"""The benchmark of thousands of strengths, on a tiny network: its sizes, its ways, its searches."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("thousands", FOLDER / "thousands.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))


def settings_of(benchmark):
    return {**benchmark.QUICK, "steps": 24, "warmup": 4}


def test_sizes_are_what_the_table_says(benchmark):
    from selftune.training import Trainer

    network = ("cost_channels", "cost_width")
    sizes = {
        size: len(Trainer(*benchmark.parts_of(size, benchmark.QUICK, network=network)).space)
        for size in ("few", "classes", "units", "examples")
    }
    units = (2 + 4 + 8 + 10) + (2 + 64 + 8)  # rows of weights, and channels that layers see
    assert sizes == {"few": 9, "classes": 27, "units": units + 20, "examples": units + 20 + 80}


def test_ways_start_from_the_same_values_and_spend_what_they_may(benchmark):
    settings = settings_of(benchmark)
    found = {
        way: benchmark.found({"way": way, "start": 3}, settings)
        for way in ("held", "random", "asha", "pbt", "implicit examples")
    }
    assert all(math.isfinite(result["test_loss"]) for result in found.values())
    assert found["held"]["steps"] == found["implicit examples"]["steps"] == 24
    assert found["random"]["steps"] == found["pbt"]["steps"] == 2 * 24
    assert 2 * 24 <= found["asha"]["steps"] < 3 * 24
    assert found["random"]["validation_loss"] <= found["held"]["validation_loss"]  # its first trial


def test_all_of_a_group_begin_with_its_value(benchmark):
    from crowd_digits import drawn, groups_of, vector

    from selftune.training import Trainer

    few = Trainer(*benchmark.parts_of("few", benchmark.QUICK)).space
    start = drawn(groups_of(few), torch.Generator().manual_seed(0))
    space = Trainer(*benchmark.parts_of("examples", benchmark.QUICK, start)).space
    begun = space.constrain(space.start)
    torch.testing.assert_close(begun, vector(space, start), rtol=1e-4, atol=1e-6)
    assert groups_of(space).keys() == groups_of(few).keys()


def test_what_diverged_counts_as_worst(benchmark):
    def record(loss):
        measures = {"test_loss": loss, "test_accuracy": 0.5} if loss else {}
        return {"cell": {"way": "held"}, "result": {**measures, "steps": 1, "cpu_seconds": 1.0}}

    ((_, starts, median, worst, *_),) = benchmark.found_rows([record(0.2), record(None), record(0.4)])
    assert (starts, median, worst) == ("3", "0.4000", "inf")
