"""A study whose hyper-steps do not wait for everyone: its file, its folder, its refusals."""

import io

import pytest
from rich.console import Console

from selftune.methods import Synchronization
from selftune.studies.folder import new_folder
from selftune.studies.mistakes import Mistakes
from selftune.studies.run import run
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_trajectory


def with_rule(text, rule, number=3):
    changed = text.replace("  warmup_steps", f"  synchronization: {rule}\n  warmup_steps")
    return changed.replace("number: 1", f"number: {number}")


def test_a_study_file_names_it_and_the_trajectory_shows_it(study_text, tmp_path):
    study = parse_study(with_rule(study_text, "{name: quorum, reports: 2, late: used}"))
    assert study.method.synchronization == Synchronization("quorum", reports=2, late="used")
    folder = new_folder(study, tmp_path / "out", local=True)
    summary = run(study, folder, Console(file=io.StringIO(), width=200), local=True, mlflow=False)
    trajectory = read_trajectory(folder)
    assert set(trajectory.diagnostics) >= {"reports", "staleness"}
    assert (trajectory.diagnostics["reports"] == 2).all()
    assert (trajectory.diagnostics["staleness"] >= 0).all()
    assert 1 <= summary["networks"]["tuned"] <= 3


def test_the_barrier_by_name_is_the_default(study_text):
    assert parse_study(with_rule(study_text, "{name: barrier}", 1)).method == parse_study(study_text).method


@pytest.mark.parametrize(
    ("rule", "number", "message"),
    [
        (
            "{name: quorum, reports: 3}",
            3,
            "method.synchronization.reports: must be below the number of trainers, 3, got 3; to wait for all of"
            " them, leave synchronization out",
        ),
        (
            "{name: quorum}",
            3,
            "method.synchronization.reports: is missing; say for how many reports a hyper-step waits",
        ),
        (
            "{name: quorums, reports: 2}",
            3,
            "method.synchronization.name: must be 'barrier', 'quorum' or 'asynchronous', got 'quorums'; did you"
            " mean quorum?",
        ),
        (
            "{name: asynchronous}",
            1,
            "method.synchronization: asynchronous is for several trainers, and there is one; leave it out",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(study_text, rule, number, message):
    with pytest.raises(Mistakes) as error:
        parse_study(with_rule(study_text, rule, number))
    assert str(error.value) == message


@pytest.mark.parametrize("method", ["inexact_line_search", "held"])
def test_methods_without_a_mean_of_hypergradients_refuse_it(study_text, method):
    text = with_rule(study_text, "{name: asynchronous}").replace("self_tuning", method)
    with pytest.raises(Mistakes) as error:
        parse_study(text.replace("  warmup_steps: 10\n", "") if method == "held" else text)
    reason = "is for methods that move by the mean of their trainers' hypergradients; leave it out"
    assert f"method.synchronization: {reason}" in str(error.value)
