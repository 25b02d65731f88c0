"""The benchmark of what a budget costs, on so little that it takes seconds."""

import sys

import cost
import pytest


def run(tmp_path, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cost.py", "--records", str(tmp_path / "records"), *arguments])
    with pytest.raises(SystemExit) as ended:
        cost.main()
    return ended.value.code


def test_a_step_is_measured_with_a_budget(tmp_path, monkeypatch, capsys):
    assert run(tmp_path, monkeypatch, "--quick", "--only", "network=mlp", "--only", "cost=2") == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("| mlp")]
    assert "every" in row
    assert any("1 of 1" in line for line in lines)


def test_studies_are_run_and_drawn(tmp_path, monkeypatch, capsys):
    only = ["--only", "study=digits", "--only", "cost=held", "--only", "cost=3"]
    assert (
        run(tmp_path, monkeypatch, "--quick", "--seeds", "1", *only, "--picture", str(tmp_path / "cost.svg")) == 0
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| digits")]
    assert len(rows) == 2
    assert "<svg" in (tmp_path / "cost.svg").read_text()
