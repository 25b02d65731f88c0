"""Studies of networks with methods that differentiate the training loss: what fits, what runs, what it says."""

import json
from pathlib import Path

import pytest

from selftune.cli import main
from selftune.methods import NetworkLineSearch, OnlineImplicit, Penalty
from selftune.studies.horizon import SCHEDULE
from selftune.studies.mistakes import Mistakes
from selftune.studies.replay import START
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_reports, read_trajectory
from selftune.training.divergence import NotFinite
from selftune.training.trainer import Trainer

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
    assert isinstance(parse_study(STUDY.replace("METHOD", name)).strategy.method(), METHODS[name])


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


@pytest.mark.parametrize(
    ("changes", "key", "fragment"),
    [
        ({"METHOD": "penalty, constraint: {radius: 2}"}, "method.constraint", "lies outside"),
        ({"METHOD": "penalty, constraint: {low: [1, 2, 3]}"}, "method.constraint.low", "has 3 entries"),
        (
            {"METHOD": "penalty, momentum: 0.3, train_steps: 1", "task: digits": "task: split_digits"},
            "method.momentum",
            "the data come in stages",
        ),
        (
            {
                "METHOD": "penalty, momentum: 0.3, train_steps: 1",
                "regularizers:": "regularizers:\n  coordinate_median: {}",
            },
            "method.momentum",
            "coordinate_median makes training steps of its own",
        ),
        (
            {"METHOD": "inexact_line_search", "train_examples": "validation_examples: 40, train_examples"},
            "method.validation_samples",
            "lets 20 examples judge",
        ),
        (
            {"METHOD": "inexact_line_search, validation_samples: 700"},
            "method.validation_samples",
            "lets 699 examples judge and keeps the rest for the hypergradient, but 700 must judge",
        ),
    ],
)
def test_what_the_method_refuses_is_refused_before_anything_is_written(
    changes, key, fragment, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text = STUDY
    for old, new in changes.items():
        text = text.replace(old, new, 1)
    Path("small.yaml").write_text(text, encoding="utf-8")
    assert main(["run", "small.yaml", "--local", "--no-mlflow"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"small.yaml: {key}: ")
    assert fragment in line
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def finished(text, folder, *more):
    """Runs a study in this process; its folder, with the replay where ``more`` asks for one."""
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["run", str(file), "--local", "--no-mlflow", "--output", str(folder / "out")]) == 0
    for command in more:
        assert main([command, str(folder / "out")]) == 0
    return folder / "out", json.loads((folder / "out" / "summary.json").read_text())


@pytest.mark.parametrize("name", ["penalty", "inexact_line_search"])
def test_trainers_that_work_on_one_network_are_not_averaged(name, tmp_path, capsys):
    """Neither the penalized network, which saw the validation split, nor other networks for comparison."""
    text = STUDY.replace("METHOD", name).replace("warmup_steps: 10", "warmup_steps: 10, train_steps: 10")
    folder, summary = finished(text + "metric: validation_accuracy\n", tmp_path, "replay")
    assert "bit for bit" in capsys.readouterr().out
    replayed = json.loads((folder / "replay.json").read_text())["results"]
    assert summary["tuned"] == replayed[SCHEDULE]
    assert summary["fixed"] == replayed[START]


def test_the_metric_of_a_search_is_that_of_the_arms_that_were_kept(tmp_path):
    text = STUDY.replace("METHOD", "inexact_line_search, train_steps: 10") + "metric: validation_accuracy\n"
    folder, summary = finished(text, tmp_path)
    trajectory, reports = read_trajectory(folder), read_reports(folder).to_pylist()
    measured = [
        {r["validation_accuracy"] for r in reports if r["validation_loss"] == loss and r["kind"] != "finish"}
        for loss in trajectory.validation_loss
    ]
    accuracy = trajectory.diagnostics["validation_accuracy"]
    assert measured == [{value} for value in accuracy]
    end = summary["tuned"]["validation_accuracy"]
    assert summary["metric"]["last"] == end
    assert summary["metric"]["best"] == max(accuracy.max(), end)


@pytest.mark.parametrize(
    "method", ["penalty, momentum: 0.3, train_steps: 1", "inexact_line_search, proximal: true, train_steps: 10"]
)
def test_a_replay_says_that_plain_training_is_another(method, tmp_path, capsys):
    finished(STUDY.replace("METHOD", method), tmp_path, "replay")
    assert "The schedule gave another network than the study" in capsys.readouterr().out


@pytest.mark.parametrize("name", METHODS)
def test_diagnostics_are_taken_at_every_due_hyper_step(name, tmp_path):
    text = STUDY.replace("METHOD", f"{name}, train_steps: 10") + "diagnostics: {softmax_collapse: {every: 2}}\n"
    folder, _ = finished(text, tmp_path)
    diagnostics = read_trajectory(folder).diagnostics
    measured = [column for name, column in diagnostics.items() if name != "validation_accuracy"]
    assert len(measured) >= 1
    for column in measured:
        assert [value == value for value in column] == [number % 2 == 0 for number in range(len(column))]


def test_a_search_says_what_its_tests_are_worth(tmp_path, capsys):
    folder, summary = finished(STUDY.replace("METHOD", "inexact_line_search"), tmp_path)
    assert "probability of at most 0.2" in summary["remark"]
    assert f"remark  {summary['remark']}" in capsys.readouterr().out
    assert "Accepted steps passed tests" in (folder / "report.html").read_text()


@pytest.mark.parametrize("member", [0, 1])
def test_a_pair_that_loses_one_fails_and_says_why(member, tmp_path, monkeypatch, capsys):
    train = Trainer._train

    def diverge(self, order):
        if self.member == member and order.values.version == 2:
            raise NotFinite("the training loss is nan at training step 20", 20)
        return train(self, order)

    monkeypatch.setattr(Trainer, "_train", diverge)
    file = tmp_path / "small.yaml"
    file.write_text(STUDY.replace("METHOD", "penalty"), encoding="utf-8")
    assert main(["run", str(file), "--local", "--no-mlflow", "--output", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert f"every pair has lost a trainer: trainer {member} stopped: the training loss is nan" in err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["status"] == "failed"


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


def test_compare_ranks_studies_by_the_metric_they_share(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "small.yaml"
    file.write_text(STUDY.replace("METHOD", "implicit"), encoding="utf-8")
    for seed in (0, 1):
        assert main(["run", str(file), "--local", "--no-mlflow", "--seed", str(seed), "--output", f"s{seed}"]) == 0
    ends = {
        f"s{seed}": json.loads((tmp_path / f"s{seed}" / "summary.json").read_text())["metric"]["last"]
        for seed in (0, 1)
    }
    capsys.readouterr()
    assert main(["compare", "s0", "s1"]) == 0
    title, *_, better, worse = capsys.readouterr().out.splitlines()
    assert title.strip() == "validation_loss at the end, smallest first"
    assert [better.split()[0], worse.split()[0]] == sorted(ends, key=ends.get)
    assert main(["compare", "s0", "nowhere"]) == 2
    assert "nowhere: holds no finished study" in capsys.readouterr().err
    for seed in (0, 1):
        summary = json.loads((tmp_path / f"s{seed}" / "summary.json").read_text())
        assert summary["metric"]["last"] == summary["tuned"]["validation_loss"]  # as `run` and the report say
    other = tmp_path / "s1" / "study.yaml"
    other.write_text(other.read_text().replace("task: digits", "task: other"))
    assert main(["compare", "s0", "s1"]) == 2
    assert capsys.readouterr().err == (
        "the studies have different tasks: digits, other; compare those that share one\n"
    )
