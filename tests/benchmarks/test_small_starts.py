"""The benchmark of start values varies what it says, and the packaged study starts in balance."""

import importlib.util
from pathlib import Path

import pytest

from selftune.studies.packaged import find_study
from selftune.studies.study_file import load_study

FILE = Path(__file__).parents[2] / "benchmarks" / "small_starts.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("small_starts", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def starts(study):
    return dict(zip(study.space.names, study.space.constrain(study.space.start).tolist(), strict=True))


@pytest.mark.parametrize("which", range(3))
def test_a_study_starts_where_the_table_says(benchmark, which):
    dropout, sigma = benchmark.STARTS[which]
    found = starts(benchmark.study_from(dropout, sigma))
    assert found["dropout.rate[hidden]"] == pytest.approx(dropout)
    assert found["gaussian_input_noise.sigma"] == pytest.approx(sigma)


def test_noise_of_the_digits_study_has_the_variance_of_its_dropout():
    """Of inputs of variance one, dropout at a rate p adds p / (1 - p), input noise sigma squared."""
    found = starts(load_study(find_study("digits")))
    rate, sigma = found["dropout.rate[input]"], found["gaussian_input_noise.sigma"]
    assert sigma**2 == pytest.approx(rate / (1 - rate), rel=0.1)


def test_a_row_is_the_mean_of_the_seeds_that_are_there(benchmark):
    def record(seed, loss):
        measures = {"test_loss": loss, "test_accuracy": 0.5}
        cell = {"dropout": 0.05, "sigma": 0.22, "seed": seed}
        return {"cell": cell, "result": {"tuned": measures, "held": measures, "sigma": 0.3}}

    assert benchmark.rows([record(0, 0.1), record(2, 0.3)]) == [
        ["0.05", "0.22", "0.2000", "0.5000", "0.2000", "0.5000", "0.3, 0.3"]
    ]
