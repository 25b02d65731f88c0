"""Studies of smooth objectives, from the file to the folder."""

import io

import pytest
import torch
from own_process import selftune
from rich.console import Console

from selftune.cli import main
from selftune.methods import Implicit, InexactLineSearch
from selftune.studies.folder import new_folder, open_folder
from selftune.studies.mistakes import Mistakes
from selftune.studies.run import run
from selftune.studies.smooth_display import SmoothDisplay
from selftune.studies.smooth_outcome import described
from selftune.studies.study_file import parse_study
from selftune.tracking.summary import read_summary
from selftune.tracking.trajectory import read_trajectory

STUDY = """\
study: small
objective: {task: ridge, groups: one}
method: {name: inexact_line_search, solver: newton}
budget: {steps: 3}
"""
PICTURES = """\
study: pictures
objective: {task: total_variation_denoising, train_crops: 1, validation_crops: 1, test_crops: 1, crop: 8}
method: {name: inexact_line_search, solver: accelerated_gradient}
budget: {steps: 1}
"""
NETWORK = """\
study: network
objective: {task: digits}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: inexact_line_search}
budget: {steps: 3}
"""


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def start(text, tmp_path, console, name="out"):
    study = parse_study(text)
    folder = new_folder(study, tmp_path / name, local=True)
    return study, folder, run(study, folder, console, local=True, mlflow=False)


@pytest.mark.parametrize(
    ("old", "new", "key", "fragment"),
    [
        ("name: inexact_line_search, solver: newton", "name: self_tuning", "method.name", "use implicit, inexact"),
        ("method: {name: inexact_line_search, solver: newton}\n", "", "method.name", "use implicit, inexact"),
        ("solver: newton", "solver: newtn", "method.solver", "did you mean newton?"),
        ("solver: newton", "stp: 1.0", "method.stp", "did you mean step?"),
        ("solver: newton", "descent: 2.0", "method.descent", "needs 0 < decrease < descent < 1"),
        ("study:", "regularizers: {dropout: {rate: tune}}\nstudy:", "regularizers", "belong to the task"),
        ("steps: 3", "seconds: 3", "budget.seconds", "is no budget of inexact_line_search; give steps or work"),
        ("steps: 3", "steps: 3, work: 3", "budget", "give either"),
        ("steps: 3", "work: 0", "budget.work", "must be at least 1"),
        ("study:", "metric: validation_accuracy\nstudy:", "metric", "unknown metric"),
        ("study:", "trainers: {gpus: 1}\nstudy:", "trainers.gpus", "must be 0"),
    ],
)
def test_mistakes(old, new, key, fragment):
    with pytest.raises(Mistakes) as caught:
        parse_study(STUDY.replace(old, new, 1))
    (mistake,) = caught.value.mistakes
    assert mistake.key == key
    assert fragment in mistake.message


def test_a_method_takes_the_form_that_fits_the_objective():
    with pytest.raises(Mistakes, match=r"method.name: self_tuning does not fit .* use implicit, inexact_line_s"):
        parse_study(STUDY.replace("inexact_line_search", "self_tuning").replace(", solver: newton", ""))
    with pytest.raises(Mistakes, match=r"budget.work: is no budget of self_tuning"):
        parse_study(NETWORK.replace("inexact_line_search", "self_tuning").replace("steps: 3", "work: 3"))


def test_the_method_is_made_from_the_file():
    study = parse_study(STUDY.replace("steps: 3", "work: 70"))
    method = study.strategy.method()
    assert isinstance(method, InexactLineSearch)
    assert (method.work_budget, method.step_budget) == (70, None)
    assert study.strategy.trainers()(0).space == study.space
    other = parse_study(STUDY.replace("inexact_line_search", "implicit"))
    assert isinstance(other.strategy.method(), Implicit)


def test_check_says_what_the_bounds_are_worth(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(STUDY.replace("one", "per_feature"))
    assert main(["check", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "it tunes 65 hyperparameters" in printed
    assert "ridge.strength (65 parts) from 0.1" in printed
    study = parse_study(STUDY)
    assert all(line in printed for line in described(study.objective, study.form)[1])
    assert "certified" in printed


def test_a_run_leaves_everything(tmp_path, console):
    study, folder, summary = start(STUDY, tmp_path, console)
    trajectory = read_trajectory(folder)
    assert summary["steps"] == len(trajectory) == 3
    assert summary["stopped"] == "its budget was spent"
    assert summary["work"] >= trajectory.certificate["work"][-1] > 0
    assert (trajectory.certificate["certified"] == 1).all()
    (hyperparameter,) = summary["hyperparameters"]
    assert hyperparameter["start"] == trajectory.values[0, 0] == pytest.approx(0.1)
    assert hyperparameter["end"] not in trajectory.values[:, 0]
    assert summary["tuned"]["validation_loss"] < summary["fixed"]["validation_loss"]
    assert set(summary["tuned"]) == {"validation_loss", "test_loss", "test_explained_variance"}
    weight = torch.load(folder / "parameters.pt")["weight"]
    values = study.space.unpack(torch.tensor([hyperparameter["end"]], dtype=torch.float64))
    assert torch.allclose(weight, study.objective.solution(values), atol=0.1)
    assert not (folder / "network.pt").exists()
    page = (folder / "report.html").read_text()
    assert "Every step is certified" in page
    assert "training step" not in page
    assert "3/3 upper steps" in console.file.getvalue()


def test_the_comparison_is_one_solve_at_the_start_values(tmp_path, console):
    study, _, summary = start(STUDY, tmp_path, console)
    solution = study.objective.solution(study.space.values(study.space.start.double()))
    exact = float(study.objective.upper({"weight": solution}, {}))
    assert summary["fixed"]["validation_loss"] == pytest.approx(exact, rel=1e-2)


def test_a_metric_that_is_measured_at_the_end_only_is_that_of_the_end(tmp_path, console):
    _, _, summary = start(PICTURES + "metric: validation_psnr\n", tmp_path, console)
    metric, end = summary["metric"], summary["tuned"]["validation_psnr"]
    assert (metric["mode"], metric["best"], metric["last"], metric["hyper_step"]) == ("max", end, end, 0)


def test_a_work_budget_ends_a_study(tmp_path, console):
    _, _, summary = start(STUDY.replace("steps: 3", "work: 40"), tmp_path, console)
    assert summary["stopped"] == "its budget was spent"
    assert summary["work"] >= 40
    assert "40 gradients and products" in console.file.getvalue()


def test_implicit_runs_and_promises_nothing(tmp_path, console):
    _, folder, summary = start(STUDY.replace("inexact_line_search", "implicit"), tmp_path, console)
    assert summary["steps"] == 3
    assert "does not certify that its steps lower" in (folder / "report.html").read_text()


def test_a_stopped_study_goes_on_to_the_same_result(tmp_path, console, monkeypatch):
    _, _, whole = start(STUDY, tmp_path, console, "whole")

    def stops(self, step):
        if step.number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SmoothDisplay, "hyper_step", stops)
        with pytest.raises(KeyboardInterrupt):
            start(STUDY, tmp_path, console)
    folder = tmp_path / "out"
    assert read_summary(folder)["status"] == "interrupted"
    study, _ = open_folder(folder)
    summary = run(study, folder, console, local=True, mlflow=False)
    for key in ("steps", "work", "hyperparameters", "tuned", "fixed"):
        assert summary[key] == whole[key]


ESTIMATED = """\
study: estimated
objective:
  {task: field_of_experts_denoising, train_crops: 1, validation_crops: 1, test_crops: 1, crop: 8, experts: 1}
method: {name: inexact_line_search, solver: accelerated_gradient, tolerance: 0.5}
budget: {steps: 3}
"""


def test_an_end_by_estimated_constants_is_nowhere_called_certified(tmp_path, console, capsys):
    certain = STUDY.replace("solver: newton", "tolerance: 10.0")
    _, folder, summary = start(certain, tmp_path, console, "certain")
    assert "is certified to be smaller" in summary["stopped"]
    _, folder, summary = start(ESTIMATED, tmp_path, console)
    assert "estimated error" in summary["stopped"]
    assert "certified to be" not in summary["stopped"]
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    for text in (page, console.file.getvalue(), capsys.readouterr().out):
        assert "Every step is certified" not in text
    assert "which certifies nothing" in page


def test_denoising_shows_its_pictures(tmp_path, console):
    _, folder, summary = start(PICTURES, tmp_path, console)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert f"restored, {summary['tuned']['test_psnr']:.1f} dB" in page


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(STUDY)
    assert main(["run", "small.yaml", "--local", "--no-mlflow", "--output", "out", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert "after 2 upper steps" in printed
    assert "because its budget was spent" in printed
    assert main(["report", "out"]) == 0
    assert main(["resume", "out"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert main(["replay", "out"]) == 2
    assert "trains no network, so there is no schedule to replay" in capsys.readouterr().err


@pytest.mark.full  # tests/studies/test_run.py does the same with a network
@pytest.mark.timeout(300)  # a busy machine is no failure
def test_ray_gives_the_same_as_this_process(tmp_path, console):
    text = STUDY.replace("budget:", "trainers: {number: 2, cpus: 0.5}\nbudget:")
    _, here, summary = start(text, tmp_path, console, "here")
    (tmp_path / "small.yaml").write_text(text)
    selftune("run", "small.yaml", "--no-mlflow", "--output", "there", cwd=tmp_path)
    again = read_summary(tmp_path / "there")
    assert again["tuned"] == summary["tuned"]
    assert again["fixed"] == summary["fixed"]
    one, two = read_trajectory(here), read_trajectory(tmp_path / "there")
    assert one.values.tolist() == two.values.tolist()
    assert one.hypergradients.tolist() == two.hypergradients.tolist()
