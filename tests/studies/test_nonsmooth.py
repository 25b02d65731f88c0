"""Studies above a lower level that is not smooth: what the check, the summary, the table and the report say."""

import io

import pytest
from rich.console import Console
from selftune.objectives.tasks.sparse_regression import SparseRegression

from selftune.cli import main
from selftune.studies import sections as module
from selftune.studies.folder import new_folder, open_folder
from selftune.studies.mistakes import Mistakes
from selftune.studies.run import run
from selftune.studies.smooth_display import SmoothDisplay
from selftune.studies.smooth_outcome import described
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_trajectory
from selftune.training.method_record import methods

STUDY = """\
study: small
objective: {task: sparse_regression, strengths: each}
method: {name: inexact_line_search, solver: proximal_gradient, tolerance: 1.0e-4}
budget: {steps: 30}
"""


class OwnMap(SparseRegression):
    def terms(self, values, slopes):
        return {}

    def proximal(self, parameters, values, step):
        w = parameters["weight"]
        return {"weight": w.sign() * (w.abs() - step * values["sparse.strength"]).clamp(min=0)}


class ByFloat(OwnMap):
    def proximal(self, parameters, values, step):
        w = parameters["weight"]
        return {"weight": w.sign() * (w.abs() - step * values["sparse.strength"].detach()).clamp(min=0)}


def start(text, tmp_path, kind=None, monkeypatch=None):
    if kind is not None:
        monkeypatch.setitem(module.tasks._entries, "sparse_regression", kind)
    study = parse_study(text)
    folder = new_folder(study, tmp_path / "out", local=True)
    summary = run(study, folder, Console(file=io.StringIO(), width=200), local=True, mlflow=False)
    return folder, summary, read_trajectory(folder), (folder / "report.html").read_text()


def test_a_certified_end(tmp_path):
    _, summary, trajectory, page = start(STUDY, tmp_path)
    assert summary["stopped"].endswith("certified to be smaller than the tolerance")
    certified = trajectory.certificate["active_set_certified"]
    assert trajectory.certificate["certified"].tolist() == certified.tolist()
    assert (
        f"is certified at the end; it was at {int(certified.sum())} of {len(trajectory)} steps"
        in summary["remark"]
    )
    assert summary["remark"][1:] in page


@pytest.mark.parametrize("method", ["inexact_line_search", "implicit"])
def test_an_active_set_that_is_not_known_is_certified_nowhere(method, tmp_path, monkeypatch):
    text = STUDY.replace("inexact_line_search", method).replace("steps: 30", "steps: 2")
    _, summary, trajectory, page = start(text, tmp_path, OwnMap, monkeypatch)
    assert trajectory.certificate["active_set_certified"].tolist() == [0.0, 0.0]
    assert trajectory.certificate["certified"].tolist() == [0.0, 0.0]
    assert "is not certified at the end; it was at 0 of 2 steps" in summary["remark"]
    assert "Steps whose active set is not certified are not certified" in page
    assert "Every step is certified" not in page


def test_check_says_what_the_bounds_are_worth(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(STUDY)
    assert main(["check", str(file)]) == 0
    assert "certified wherever the active set of the solution is" in capsys.readouterr().out
    assert (
        "of its proximal map no active sets are known, so error bounds are heuristic"
        in described(OwnMap(), methods["implicit"].smooth)[1]
    )


def test_a_map_that_cannot_be_differentiated_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setitem(module.tasks._entries, "sparse_regression", ByFloat)
    with pytest.raises(Mistakes, match="in a way that autograd cannot follow"):
        parse_study(STUDY)


def test_another_solver_is_refused():
    with pytest.raises(Mistakes, match="must be proximal_gradient"):
        parse_study(STUDY.replace("proximal_gradient", "newton"))


@pytest.mark.parametrize("kind", [SparseRegression, OwnMap])
def test_a_stopped_study_goes_on_to_the_same_result(kind, tmp_path, monkeypatch):
    text = STUDY.replace("steps: 30", "steps: 4").replace("1.0e-4", "1.0e-4, checkpoint_every: 2")
    _, whole, trajectory, _ = start(text, tmp_path / "whole", kind, monkeypatch)

    def stops(self, step):
        if step.number == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SmoothDisplay, "hyper_step", stops)
        with pytest.raises(KeyboardInterrupt):
            start(text, tmp_path, kind, monkeypatch)
    study, _ = open_folder(tmp_path / "out")
    summary = run(study, tmp_path / "out", Console(file=io.StringIO()), local=True, mlflow=False)
    for key in ("steps", "work", "hyperparameters", "tuned", "fixed", "remark"):
        assert summary[key] == whole[key]
    again = read_trajectory(tmp_path / "out")
    for name, values in trajectory.certificate.items():
        assert values.tolist() == pytest.approx(again.certificate[name].tolist(), rel=0, abs=0, nan_ok=True)
