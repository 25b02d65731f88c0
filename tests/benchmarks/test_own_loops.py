"""Problems that know nothing of selftune are tuned in a loop of one's own, as benchmarks/own_loops.py does it."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "own_loops.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("own_loops", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def text():
    return "".join(chr(97 + number * number % 23) for number in range(4000))


@pytest.mark.parametrize("name", ["diabetes", "characters"])
def test_strengths_move_only_where_they_are_tuned(benchmark, name):
    problem = benchmark.diabetes() if name == "diabetes" else benchmark.characters(text(), length=16, used=1600)
    held, values = benchmark.train(problem, steps=5, seed=0, tuned=False)
    assert values == {}
    tuned, values = benchmark.train(problem, steps=30, seed=0, tuned=True, warmup_steps=10)
    assert held > 0
    assert tuned > 0
    starts = {f"{key}.{part}": start for key, given in problem.strengths.items() for part, start in given.items()}
    assert all(values[key] != start for key, start in starts.items())


def test_the_text_may_be_missing(benchmark, tmp_path):
    assert list(benchmark.problems(tmp_path / "absent.txt")) == ["diabetes"]
