"""What came of the cells of a comparison, as numbers, tables and a picture."""

import re
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from selftune.storage.files import DamagedFile
from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.outcome import Outcome
from selftune.sweeps.comparison.record import FILE, ComparisonRecord, read_record
from selftune.sweeps.comparison.shown import print_comparison, write_comparison
from selftune.sweeps.comparison.table import rows_of, starts_rows_of

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {weight_decay: {strength: {start: 1.0e-4}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 100}
"""


def outcome(validation, test, accuracy, moments=((100, 1.0), (400, 0.0)), **further):
    return Outcome(
        winner=1,
        values={"regularizers.weight_decay.strength": 0.01},
        measures={"validation_loss": validation, "test_loss": test, "test_accuracy": accuracy},
        spent=tuple(spent for spent, _ in moments),
        computed=tuple(spent / 100 for spent, _ in moments),
        best=tuple(validation + above for _, above in moments),
        steps=400,
        seconds=8.0,
        clock=4.0,
        trials={"finished": 4},
        **further,
    )


@pytest.fixture(scope="module")
def comparison():
    return comparison_of(
        STUDY, ComparisonSettings(methods=("random", "self_tuning"), steps=400, seeds=2, starts=20)
    )


@pytest.fixture
def record(comparison):
    study = comparison.study
    record = ComparisonRecord(study.text, comparison.settings, study.study, study.metric, study.mode)
    record = record.with_outcome("random-0", outcome(0.3, 0.4, 0.90))
    record = record.with_outcome("random-1", outcome(0.5, 0.6, 0.80))
    record = record.with_outcome("self_tuning-0", outcome(0.2, 0.3, 0.95, moments=((50, 2.0), (200, 0.0))))
    losses = np.linspace(0.1, 2.0, 20)
    by_start = tuple(
        {"validation_loss": loss, "test_loss": loss, "test_accuracy": 1 - loss / 4} for loss in losses
    )
    record = record.with_outcome("random-starts", outcome(0.1, 0.1, 0.9, by_start=by_start))
    return record.with_failure("self_tuning-1", "no trainer is left")


def test_rows_are_means_over_the_seeds_that_have_ended(comparison, record):
    random, tuned = rows_of(comparison, record.outcomes)
    assert (random.method, random.seeds, tuned.method, tuned.seeds) == ("random", 2, "self_tuning", 1)
    assert random.columns["test_loss"].mean == pytest.approx(0.5)
    assert random.columns["test_loss"].spread == pytest.approx(0.2 / np.sqrt(2))
    assert tuned.columns["test_loss"].spread is None


def test_the_best_so_far_is_told_at_shares_of_the_budget(comparison, record):
    random, tuned = rows_of(comparison, record.outcomes)
    assert random.columns["best at 25%"].mean == pytest.approx(1.4)
    assert tuned.columns["best at 25%"].mean == pytest.approx(2.2)
    assert tuned.columns["best at 50%"].mean == pytest.approx(0.2)
    assert random.columns["best at 100%"].mean == pytest.approx(0.4)


def test_at_equal_seconds_everybody_has_as_many_as_the_fastest_needs(comparison, record):
    """Random search is through after 3 seconds of seed 0, when self_tuning has become better once, after 2."""
    outcomes = {
        **record.outcomes,
        "random-0": replace(record.outcomes["random-0"], seconds=3.0),
        "self_tuning-0": replace(record.outcomes["self_tuning-0"], computed=(2.0, 5.0)),
    }
    random, tuned = rows_of(comparison, outcomes)
    assert random.columns["best at equal seconds"].mean == pytest.approx(((0.3 + 1.0) + 0.5) / 2)
    assert tuned.columns["best at equal seconds"].mean == pytest.approx(2.2)


def test_a_budget_in_seconds_is_told_in_seconds(comparison, record):
    timed = replace(comparison, settings=ComparisonSettings(methods=("random", "self_tuning"), seconds=8.0))
    tuned = rows_of(timed, record.outcomes)[1]
    assert tuned.columns["best at 25%"].mean == pytest.approx(0.2)
    assert "best at equal seconds" not in tuned.columns


def test_starts_give_a_median_and_a_worst_decile(comparison, record):
    [random] = starts_rows_of(comparison, record.outcomes)
    assert (random.method, random.starts) == ("random", 20)
    median, worst = random.columns["test_loss"]
    assert (median, worst) == (pytest.approx(1.05), pytest.approx(1.81))
    assert random.columns["test_accuracy"][1] == pytest.approx(1 - 1.81 / 4)


def test_the_best_of_a_column_stands_out_and_what_is_missing_is_said(comparison, record, tmp_path):
    write_comparison(tmp_path, comparison, record)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    tuned = [line for line in lines if line.startswith("| self_tuning ")]
    assert tuned[0] == "| self_tuning | **0.2000** | **0.3000** | **0.9500** | 1 of 2 |"
    assert tuned[1] == "| self_tuning | 2.2000 | **0.2000** | **0.2000** | **0.2000** | 400 | 8 | 1 of 2 |"
    assert any("| 0.5000 ±0.1414 |" in line for line in lines if line.startswith("| random "))
    assert any(line.startswith("4 of 6 sweeps have ended") for line in lines)
    assert "missing self_tuning-1: failed: no trainer is left" in [line.rstrip() for line in lines]
    assert "missing self_tuning-starts" in [line.rstrip() for line in lines]
    svg = (tmp_path / "comparison.svg").read_text()
    assert all(word in svg for word in ("random", "self_tuning", "best validation loss so far"))


def test_a_console_shows_the_same(comparison, record, tmp_path):
    console = Console(file=StringIO(), width=80)
    print_comparison(console, comparison, record, tmp_path)
    shown = console.file.getvalue()
    assert re.search(r"self_tuning +0\.2000 +0\.3000 +0\.9500 +1 of 2", shown)
    assert re.search(r"self_tuning +2\.2000 +0\.2000 +0\.2000 +0\.2000 +400 +8 +1 of 2", shown)
    assert f"go on with `selftune resume {tmp_path}`" in shown


def test_nothing_yet_is_a_table_and_a_picture_too(comparison, tmp_path):
    record = ComparisonRecord(STUDY, comparison.settings, "tiny", "validation_loss", "min")
    write_comparison(tmp_path, comparison, record)
    assert "0 of 6 sweeps have ended" in (tmp_path / "comparison.md").read_text()


def test_a_record_is_read_as_it_was_written(comparison, record, tmp_path):
    record.write(tmp_path)
    again = read_record(tmp_path)
    assert again.outcomes["random-0"].measures == record.outcomes["random-0"].measures
    assert (again.settings, again.failures, again.text) == (record.settings, record.failures, record.text)
    assert again.outcomes["self_tuning-0"].best_at(100, "spent") == pytest.approx(2.2)


def test_a_record_that_changed_is_refused(record, tmp_path):
    record.write(tmp_path)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("0.3", "0.1"))
    with pytest.raises(DamagedFile, match="was changed since selftune wrote it"):
        read_record(tmp_path)


def test_an_ended_cell_has_not_failed(record):
    assert not record.with_outcome("self_tuning-1", outcome(0.1, 0.1, 0.9)).failures
