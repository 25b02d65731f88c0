"""The benchmark of methods compares studies that can be compared, and says what is there and what is missing."""

import importlib.util
import sys
from pathlib import Path

import pytest

from selftune.sweeps.comparison.outcome import Outcome

FILE = Path(__file__).parents[2] / "benchmarks" / "comparison.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("comparison", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def asked(benchmark, folder, *further):
    return benchmark.parsed(["--methods", "held,random", "--seeds", "2", "--output", str(folder), *further])


@pytest.mark.parametrize("task", ["digits", "wine", "diabetes", "language_model"])
def test_every_task_can_be_compared(benchmark, tmp_path, task):
    comparison = benchmark.comparison_on(task, asked(benchmark, tmp_path, "--budget", "4"))
    assert comparison.settings.steps == 4 * comparison.length


def test_data_that_are_not_there_are_skipped_with_a_sentence(benchmark, tmp_path, capsys):
    benchmark.main(["--tasks", "cifar", "--data", str(tmp_path), "--output", str(tmp_path), "--show"])
    assert "cifar: skipped:" in capsys.readouterr().out


def test_what_is_there_is_kept_when_more_is_asked_for(benchmark, tmp_path, capsys):
    comparison = benchmark.comparison_on("wine", asked(benchmark, tmp_path))
    folder = tmp_path / "wine"
    folder.mkdir()
    outcome = Outcome(measures={"validation_loss": 0.25}, spent=(10,), computed=(1.0,), best=(0.25,))
    benchmark.record_of(comparison, folder).with_outcome("held-0", outcome).write(folder)
    benchmark.main(["--tasks", "wine", "--methods", "held,random,tpe", "--output", str(tmp_path), "--show"])
    shown = capsys.readouterr().out
    assert "0.2500" in shown
    assert "1 of 9 sweeps have ended" in shown
    assert "missing tpe-2" in shown
    benchmark.main(["--tasks", "wine,iris", "--methods", "held,random", "--output", str(tmp_path), "--summary"])
    assert capsys.readouterr().out.startswith("| test loss | seeds | `held` | `random` |")
    with pytest.raises(SystemExit, match="holds another study, or one with another budget"):
        benchmark.main(["--tasks", "wine", "--budget", "9", "--output", str(tmp_path), "--show"])


def test_a_summary_has_a_row_per_task_over_the_seeds_that_all_have(benchmark, tmp_path, capsys):
    comparison = benchmark.comparison_on("wine", asked(benchmark, tmp_path))
    (tmp_path / "wine").mkdir()
    record = benchmark.record_of(comparison, tmp_path / "wine")
    for name, loss, seconds in (("held-0", 0.5, 1.0), ("random-0", 0.25, 9.0), ("held-1", 7.0, 1.0)):
        outcome = Outcome(
            measures={"test_loss": loss}, spent=(10, 20), computed=(1.0, 10.0), best=(loss, 0.1), seconds=seconds
        )
        record = record.with_outcome(name, outcome)
    record.write(tmp_path / "wine")
    benchmark.main(["--tasks", "wine", "--methods", "held,random,tpe", "--output", str(tmp_path), "--summary"])
    shown = capsys.readouterr().out
    assert "| wine | 1 | 0.5000 | **0.2500** |  |" in shown
    assert "| wine | 1 | 0.5000 | 0.2500 |  |" not in shown
    assert "| wine | 1 | 1 | 9 |  |" in shown
