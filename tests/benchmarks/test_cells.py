"""A long benchmark goes on after any kill, and says what is there."""

import doctest
import json
import signal
import subprocess
import sys
from pathlib import Path

import cells as module
import pytest
from cells import CellRecords, OtherSettings, chosen

CELLS = [{"table": table, "seed": seed} for table in ("wine", "a/b, c") for seed in range(2)]


def quiet(line):
    pass


def test_the_examples_run():
    assert doctest.testmod(module).failed == 0


def test_a_finished_cell_is_not_measured_again(tmp_path):
    records, measured = CellRecords(tmp_path), []

    def measure(cell):
        measured.append(cell)
        return {"loss": 1.0}

    records.run(CELLS[:3], measure, quiet)
    assert records.missing(CELLS) == CELLS[3:]
    records.run(CELLS, measure, quiet)
    assert measured == CELLS
    assert [record["cell"] for record in records.read(CELLS)] == CELLS


def test_a_record_says_how_it_was_made(tmp_path):
    records = CellRecords(tmp_path, {"steps": 3, "hidden": (8, 8)})
    records.run(CELLS[:1], lambda cell: {"loss": 1.0}, quiet)
    (record,) = records.read(CELLS)
    assert record["settings"] == {"steps": 3, "hidden": [8, 8]}
    assert record["versions"].keys() >= {"python", "selftune", "torch", "commit"}
    assert record["command"]
    assert record["date"].endswith("+00:00")
    assert record["seconds"] >= 0


def test_records_of_other_settings_are_refused(tmp_path):
    CellRecords(tmp_path, {"steps": 3}).run(CELLS[:1], lambda cell: {}, quiet)
    with pytest.raises(
        OtherSettings, match=r"seed=0.json was measured with steps 3, this run has 4; give the same"
    ):
        CellRecords(tmp_path, {"steps": 4}).run(CELLS, lambda cell: {}, quiet)


def test_a_cell_that_fails_is_said_and_the_others_go_on(tmp_path):
    said = []

    def measure(cell):
        if cell["seed"] == 0:
            raise ZeroDivisionError("not this one")
        return {}

    records = CellRecords(tmp_path)
    assert records.run(CELLS, measure, said.append) == CELLS[::2]
    assert records.missing(CELLS) == CELLS[::2]
    assert sum("not this one" in line for line in said) == 2
    kept = json.loads(records.failure_path(CELLS[0]).read_text())
    assert kept["cell"] == CELLS[0]
    assert kept["error"].endswith("ZeroDivisionError: not this one\n")
    assert records.state(CELLS).splitlines()[2:] == [
        "| wine   | 1 of 2 | seed 0 (failed) |",
        "| a/b, c | 1 of 2 | seed 0 (failed) |",
    ]
    assert records.run(CELLS, lambda cell: {}, quiet) == []
    assert not list(tmp_path.glob("*.failed")), "a cell that was measured has not failed any more"


def test_what_is_there_and_what_is_missing(tmp_path):
    records = CellRecords(tmp_path)
    records.run(CELLS[:3], lambda cell: {}, quiet)
    assert records.state(CELLS).splitlines() == [
        "| table  | there  | missing |",
        "| ------ | ------ | ------- |",
        "| wine   | 2 of 2 | -       |",
        "| a/b, c | 1 of 2 | seed 1  |",
    ]


def test_some_cells_can_be_chosen():
    assert chosen(CELLS, ["table=wine", "seed=1"]) == [CELLS[1]]
    assert chosen(CELLS, []) == CELLS
    with pytest.raises(ValueError, match="--only seed=7: there is no such cell; known: 0, 1"):
        chosen(CELLS, ["seed=7"])
    with pytest.raises(ValueError, match="no cell has this coordinate"):
        chosen(CELLS, ["sead=1"])


def test_a_killed_run_goes_on(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from cells import CellRecords
replace = os.replace
def killed(*names):  # with the record written, but not yet in its place
    if len(list(Path(sys.argv[1]).glob("*.json"))) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
os.replace = killed
CellRecords(Path(sys.argv[1])).run([{"seed": seed} for seed in range(4)], lambda cell: {"loss": cell["seed"]})
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    folder = Path(module.__file__).parent
    assert subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    four = [{"seed": seed} for seed in range(4)]
    records, measured = CellRecords(tmp_path), []
    assert records.missing(four) == four[2:]
    records.run(four, lambda cell: measured.append(cell) or {"loss": cell["seed"]}, quiet)
    assert measured == four[2:]
    assert sorted(json.loads(path.read_text())["result"]["loss"] for path in tmp_path.iterdir()) == [0, 1, 2, 3]
