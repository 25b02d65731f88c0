"""The command ``selftune compare``: what it refuses, in one sentence, before anything is written."""

from pathlib import Path

import pytest

from selftune.cli import main
from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.folder import new_comparison_folder

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers: {weight_decay: {strength: {start: 1.0e-4}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 100}
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    (tmp_path / "swept.yaml").write_text(STUDY + "sweep: {trials: 2}\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "tiny.yaml --methods tpe",
            "--budget: is missing; give training steps, such as 24000, or seconds, such as 600s",
        ),
        ("tiny.yaml --methods tpa --budget 400", "--methods: unknown method 'tpa'; did you mean tpe?"),
        ("tiny.yaml --methods tpe,tpe --budget 400", "--methods: tpe is there twice; name it once"),
        ("tiny.yaml --methods , --budget 400", "--methods: is empty; name at least one method"),
        ("tiny.yaml --methods tpe --budget 400 --starts 1", "--starts: must be at least 2, or 0 for none, got 1"),
        (
            "tiny.yaml --methods tpe --budget 99",
            "--budget: lasts for less than one trial of tpe, which is 100 training steps; give at least 100, or"
            " shorter trials with --steps",
        ),
        ("tiny.yaml --methods tpe --budget 0s", "--budget: must be a positive number of seconds, got 0"),
        ("tiny.yaml --methods tpe --budget nans", "--budget: must be a number"),
        ("tiny.yaml --methods tpe --budget infs", "--budget: must be "),
        (
            "tiny.yaml --methods pbt --budget 200",
            "--budget: makes a population of 2, of which a quantile of 0.25 is less than one trial with pbt; give"
            " more, or shorter trials with --steps",
        ),
        (
            "tiny.yaml",
            "tiny.yaml: is a file, and finished studies are folders; to compare methods of tuning on a study file,"
            " name them with --methods",
        ),
        (
            "swept.yaml --methods tpe --budget 400",
            "swept.yaml: sweep: cannot be compared: each method is a sweep of its own; take the section out",
        ),
        (
            "folder --methods tpe --budget 400",
            "folder: is a folder; with --methods give a study file, or the name of a packaged study, and leave"
            " --methods out to rank folders",
        ),
        (
            "tiny.yaml swept.yaml --methods tpe --budget 400",
            "swept.yaml: with --methods one study is compared; give a single one",
        ),
        ("folder --budget 400", "--budget: is for the comparison of methods on a study; name them with --methods"),
        (
            "folder --no-mlflow",
            "--no-mlflow: is for the comparison of methods on a study; name them with --methods",
        ),
        ("absent --methods tpe --budget 400", "absent: is neither a file nor a packaged study; known are "),
    ],
)
def test_requests_that_cannot_be_met(arguments, line, place, capsys):
    before = sorted(place.rglob("*"))
    assert main(["compare", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)
    assert sorted(place.rglob("*")) == before


def test_a_budget_that_is_no_number(place, capsys):
    assert main(["compare", "tiny.yaml", "--methods", "tpe", "--budget", "many"]) == 2
    assert "must be training steps, such as 24000, or seconds, such as 600s; got 'many'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"notes.txt": "mine"}, "out: is not empty and holds no comparison; choose another folder with --output"),
        (None, "out: is a file; choose a folder with --output"),
    ],
)
def test_folders_that_hold_something_else(content, line, place, capsys):
    if content is None:
        (place / "out").write_text("")
    else:
        (place / "out").mkdir()
        for name, text in content.items():
            (place / "out" / name).write_text(text)
    before = sorted(place.rglob("*"))
    assert main(["compare", "tiny.yaml", "--methods", "self_tuning", "--budget", "400", "--output", "out"]) == 2
    assert capsys.readouterr().err == line + "\n"
    assert sorted(place.rglob("*")) == before


def test_a_comparison_of_which_nothing_has_run_is_shown(place, capsys):
    comparison = comparison_of(STUDY, ComparisonSettings(methods=("held", "tpe"), steps=400, seeds=1))
    folder = new_comparison_folder(comparison, place / "out")
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "0 of 2 sweeps have ended" in out
    assert "missing tpe-0" in out
    assert (folder / "comparison.md").is_file()


def test_folders_are_numbered(place):
    comparison = comparison_of(STUDY, ComparisonSettings(methods=("self_tuning",), steps=400, seeds=1))
    assert [str(new_comparison_folder(comparison, None)) for _ in range(2)] == [
        "runs/compare-tiny-1",
        "runs/compare-tiny-2",
    ]


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_damaged_record_is_one_sentence(place, capsys, command):
    (place / "out").mkdir()
    (place / "out" / "comparison.json").write_text("{")
    assert main([command, "out"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("out/comparison.json: is damaged")


def test_a_comparison_is_not_overwritten(place, capsys):
    comparison = comparison_of(STUDY, ComparisonSettings(methods=("self_tuning",), steps=400, seeds=1))
    new_comparison_folder(comparison, place / "out")
    assert main(["compare", "tiny.yaml", "--methods", "self_tuning", "--budget", "400", "--output", "out"]) == 2
    assert capsys.readouterr().err.startswith("out: holds a comparison; go on with it with `selftune resume out`")


def test_a_restart_begins_or_goes_on_with_the_same_comparison(place, capsys, monkeypatch):
    ran = []
    run = "selftune.sweeps.comparison.run.run_comparison"
    monkeypatch.setattr(run, lambda comparison, folder, *_: ran.append((folder, comparison.settings.steps)))
    arguments = ["compare", "tiny.yaml", "--methods", "self_tuning", "--output", "out", "--restart"]
    for _ in range(2):
        assert main([*arguments, "--budget", "400"]) == 1
    assert ran == [(Path("out"), 400)] * 2
    capsys.readouterr()
    assert main([*arguments, "--budget", "500"]) == 2
    assert capsys.readouterr().err == "out: holds another comparison; choose another folder with --output\n"
    assert main(["compare", "out", "--restart"]) == 2
    assert capsys.readouterr().err.startswith("--restart: is for the comparison of methods on a study")
