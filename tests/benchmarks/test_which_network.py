"""The benchmark of ways to choose a network chooses as its rows say."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "which_network.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("which_network", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measures(loss, accuracy, test_loss):
    names = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
    return dict(zip(names, (loss, accuracy, test_loss, 0.5), strict=True))


ROWS = [
    {"weights": measures(0.3, 0.9, 1.0), "average": measures(0.5, 0.8, 2.0)},
    {"weights": measures(0.2, 0.8, 3.0), "average": measures(0.4, 0.8, 4.0)},
    {"weights": measures(0.6, 0.7, 5.0), "average": measures(0.1, 0.8, 6.0)},
]
CHOSEN = {
    "last weights": "5.0000",
    "last average": "6.0000",
    "the average where the loss of the weights is lowest": "4.0000",
    "there, the weights or the average, by the loss": "3.0000",
    "the average where its own loss is lowest": "6.0000",
    "the weights by accuracy, then loss": "1.0000",
    "mean over all averages of the last 1000 steps": "4.0000",
}


@pytest.mark.parametrize("name", CHOSEN)
def test_a_row_is_the_mean_of_what_its_way_chooses(benchmark, name):
    records = [{"cell": {"values": values, "seed": 200}, "result": {"rows": ROWS}} for values in ("held", "tuned")]
    assert benchmark.line(name, records) == [name, CHOSEN[name], "0.5000", CHOSEN[name], "0.5000"]
    assert set(CHOSEN) == set(benchmark.CHOICES)
