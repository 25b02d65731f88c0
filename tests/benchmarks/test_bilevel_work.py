"""The benchmark of bilevel methods prints a row for every problem, whatever happened to a method there."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "bilevel_work.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("bilevel_work", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        ([3.0, 1.0], [3.0, 1.0], "1.00"),
        ([3.0, 1.0], [3.0], "-"),  # the rival never left the start, which is its target
        ([3.0], [3.0, 1.0], "never"),
        ([3.0], [3.0], "-"),
    ],
)
def test_every_problem_has_a_row_of_ratios(benchmark, ours, theirs, ratio):
    def curve(loss):
        return benchmark.Curve([10 * i for i in range(len(loss))], [0.0] * len(loss), loss, [0.0] * len(loss))

    both = {"inexact_line_search": curve(ours), "hoag_exact": curve(theirs)}
    good = {"inexact_line_search": curve([2.0, 1.0]), "hoag_exact": curve([2.0, 1.5, 1.0])}
    text = benchmark.table({"odd": both, "even": good}, 0.01)
    rows = [line for line in text.splitlines() if line.startswith(("| odd |", "| even |"))]
    assert len(rows) == 4 + 2
    assert rows[-2].startswith("| odd |")
    assert rows[-2].endswith(f"| {ratio} |")
    assert rows[-1].endswith("| 0.50 |")
    assert ("1 of 2 rows are not in the mean" in text) == (ratio in ("-", "never"))
