"""Studies of networks with methods that differentiate the training loss: what fits, what runs, what it says."""

import json

import pytest

from selftune.cli import main
from selftune.methods import NetworkLineSearch, OnlineImplicit, Penalty
from selftune.studies.mistakes import Mistakes
from selftune.studies.study import parse_study
from selftune.tracking.trajectory import read_trajectory

STUDY = """\
study: small
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers:
  weight_decay: {strength: {start: 1.0e-3}}
  label_smoothing: {epsilon: {start: 0.1}}
method: {name: METHOD, warmup_steps: 10}
trainers: {number: 2}
budget: {steps: 60}
"""

SELF_SUPERVISED = """\
study: views
objective: {task: self_supervised_digits, hidden: 32, dimension: 16}
regularizers: {barlow_twins: {strength: 0.03, off_diagonal_weight: {start: 1.0e-3}}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 40}
"""

METHODS = {"implicit": OnlineImplicit, "penalty": Penalty, "inexact_line_search": NetworkLineSearch}


@pytest.mark.parametrize("name", METHODS)
def test_the_method_is_the_one_for_networks(name):
    assert isinstance(parse_study(STUDY.replace("METHOD", name)).build_method(), METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_smooth_is_refused(name):
    text = STUDY.replace("METHOD", name).replace("label_smoothing: {epsilon", "dropout: {rate")
    with pytest.raises(Mistakes) as caught:
        parse_study(text)
    (mistake,) = caught.value.mistakes
    assert mistake.key == "regularizers.dropout.rate"
    assert "tune it by self_tuning" in mistake.message
    assert parse_study(text.replace("{start: 0.1}", "0.1")).space.names == ("weight_decay.strength",)


def test_penalty_needs_pairs_of_trainers():
    with pytest.raises(Mistakes, match=r"trainers.number: must be a multiple of 2"):
        parse_study(STUDY.replace("METHOD", "penalty").replace("number: 2", "number: 3"))


@pytest.mark.parametrize("name", METHODS)
def test_a_study_runs_to_its_end_and_says_that_nothing_is_certified(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "small.yaml"
    file.write_text(STUDY.replace("METHOD", name), encoding="utf-8")
    assert main(["run", str(file), "--local", "--no-mlflow", "--output", "out"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert {"test_loss", "test_accuracy"} <= set(summary["tuned"])
    trajectory = read_trajectory(tmp_path / "out")
    assert len(trajectory) >= 1
    assert (trajectory.certificate["certified"] == 0).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no step is certified" in page


@pytest.mark.parametrize(
    ("section", "key", "fragment"),
    [
        ("softmax_colapse: {}", "diagnostics", "softmax_collapse"),
        ("softmax_collapse: {every: 0}", "diagnostics.softmax_collapse.every", "at least 1"),
        ("softmax_collapse: {precison: 1}", "diagnostics.softmax_collapse.precison", "did you mean precision"),
        ("scaling_asymptote: {}", "diagnostics.scaling_asymptote", "judges finished runs"),
    ],
)
def test_wrong_diagnostics(section, key, fragment):
    text = STUDY.replace("METHOD", "implicit") + f"diagnostics:\n  {section}\n"
    with pytest.raises(Mistakes) as caught:
        parse_study(text)
    (mistake,) = caught.value.mistakes
    assert mistake.key.startswith(key)
    assert fragment in mistake.message


def test_diagnostics_go_to_the_trajectory_and_can_be_the_metric(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = SELF_SUPERVISED + "diagnostics: {rank_me: {every: 2}}\nmetric: rank_me\n"
    assert parse_study(text).mode == "max"
    file = tmp_path / "small.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["run", str(file), "--local", "--no-mlflow", "--output", "out"]) == 0
    ranks = read_trajectory(tmp_path / "out").diagnostics["rank_me"]
    assert all((1 <= rank <= 16) == (number % 2 == 0) for number, rank in enumerate(ranks))
    metric = json.loads((tmp_path / "out" / "summary.json").read_text())["metric"]
    assert metric["best"] == max(ranks[::2])
    assert metric["last"] == ranks[::2][-1]


def test_a_plain_classifier_has_no_views_to_rank():
    with pytest.raises(Mistakes, match=r"diagnostics.rank_me: rank_me needs view_a, which Digits"):
        parse_study(STUDY.replace("METHOD", "implicit") + "diagnostics: {rank_me: {}}\n")
